"""A model without attention in the same loop: streamed as in one pass, resumed, guided, refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from longtake.attention.cache.policy import FullHistory, RebuiltWindow, WindowSink
from longtake.attention.sparse.settings import SparseSelf, Sparsity
from longtake.attention.states.cache import StateReader
from longtake.attention.storage.packed import Packed
from longtake.attention.storage.quantize import INT8
from longtake.errors import BadInput, Unsupported
from longtake.model.memory import convolution_scratch, peak_bytes
from longtake.model.recurrent.config import RecurrentConfig
from longtake.model.recurrent.file import load_recurrent, recurrent_header
from longtake.model.recurrent.forward import predict, project_text
from longtake.model.recurrent.network import RecurrentNetwork
from longtake.samplers.branches import Branches
from longtake.samplers.current import CurrentSettings
from longtake.samplers.denoiser import local_denoiser
from longtake.samplers.guidance import (
    DROP,
    NOISE,
    Guidance,
    cfg,
    fractional,
    last,
    magi,
    temporal,
    vanilla,
)
from longtake.samplers.history.plan import planned_bytes
from longtake.samplers.loop import Chunk, Loop, generate
from longtake.samplers.planning.memory import max_bytes, rollout_memory
from longtake.samplers.rules.memory import MemoryRules
from longtake.samplers.rules.reading import RecencyBias
from longtake.samplers.schedule.levels import flow_ladder
from longtake.samplers.schedule.rows import full_sequence, pyramid, rolling
from longtake.samplers.settings import RolloutSettings
from longtake.samplers.solvers.multistep import UniPC2
from longtake.stream.journal.journal import Journal
from longtake.stream.rollout.rollout import Rollout
from longtake.stream.rollout.spec import RolloutSpec
from longtake.tests.support.stream.rollouts import cut_after, edit_fork
from longtake.tests.support.tiny_model import TINY, randn, randomise, settings, timeline

CONFIG = RecurrentConfig(dim=6, num_layers=2, text_dim=TINY.text_dim, in_channels=4, out_channels=4)
LADDER = flow_ladder(3, 3.0)
LENGTH, CHUNK = 12, 3


def network() -> RecurrentNetwork:
    tree = RecurrentNetwork(CONFIG)
    randomise(tree, 0)
    return tree.eval().requires_grad_(False)


MODEL = local_denoiser(network(), CONFIG)


def shot(**changes: Any) -> RolloutSettings:
    return settings(**{"length": LENGTH, "cache": FullHistory(), **changes})


def chunks(**changes: Any) -> list[Chunk]:
    return list(generate(shot(**changes), MODEL))


def same(ours: list[Chunk], theirs: list[Chunk]) -> bool:
    pairs = zip(ours, theirs, strict=True)
    return all(torch.equal(a.latents, b.latents) for a, b in pairs)


def empty(rows: int) -> StateReader:
    """The state of a shot that has not begun."""
    zeros = torch.zeros(rows, 24, 1, CONFIG.dim)
    return StateReader([(zeros, zeros)] * CONFIG.num_layers, slice(None))


@torch.no_grad()
def in_one_pass(x: Tensor, levels: list[float]) -> Tensor:
    """The velocities of latents x (f, c, h, w), every frame of a clip in one pass."""
    tree = MODEL.host.claim(0)
    text = project_text(tree, timeline(0).entries[0].embedding[None, None])
    return predict(tree, x[None], 1000 * torch.tensor([levels]), text, empty(1)).velocity[0]


def prepared(guidance: Guidance, clean: Tensor) -> Branches:
    """Branches that have committed clean latents, chunk by chunk."""
    branches = Branches(CurrentSettings(shot(prompts=timeline(0), guidance=guidance)), MODEL)
    branches.claim()
    branches.use(branches.current.settings, 0)
    for first in range(0, len(clean), CHUNK):
        branches.commit(first, clean[first : first + CHUNK])
    return branches


def test_chunk_by_chunk_is_one_pass_over_the_whole_clip() -> None:
    clean, noisy = randn(9, 4, 4, 6, seed=1), randn(CHUNK, 4, 4, 6, seed=2)
    branches = prepared(Guidance(), clean)
    row = next(branches.current.settings.noise_rows(9))
    expected = in_one_pass(torch.cat([clean, noisy]), [0.0] * 9 + [*row.now])[-CHUNK:]
    torch.testing.assert_close(branches.velocity(noisy, row), expected, rtol=1e-5, atol=1e-5)


def test_guidance_away_from_no_history_is_away_from_a_first_chunk() -> None:
    clean, noisy = randn(9, 4, 4, 6, seed=1), randn(CHUNK, 4, 4, 6, seed=2)
    branches = prepared(vanilla(2.0, DROP), clean)
    row = next(branches.current.settings.noise_rows(9))
    whole = in_one_pass(torch.cat([clean, noisy]), [0.0] * 9 + [*row.now])[-CHUNK:]
    without = in_one_pass(noisy, [*row.now])
    ours = branches.velocity(noisy, row)
    torch.testing.assert_close(ours, 2 * whole - without, rtol=1e-4, atol=1e-4)


KINDS: dict[str, dict[str, Any]] = {
    "causal": {},
    "multistep": {"solver": UniPC2()},
    "pyramid": {"schedule": pyramid(LADDER)},
    "rolling": {"schedule": rolling(LADDER, 2)},
    "text": {"guidance": cfg(2.0)},
    "two prompts over one history": {"guidance": magi()},
    "noise": {"guidance": vanilla(2.0, NOISE)},
    "no history": {"guidance": vanilla(2.0, DROP)},
    "noisy": {"guidance": fractional(1.5, 0.4)},
    "exact": {"guidance": temporal(0.5, last(3, exact=True))},
    "rebuilt": {"cache": RebuiltWindow(6)},
    "re-cache": {"on_prompt_change": "re-cache"},
}


@pytest.mark.parametrize("name", KINDS)
def test_replayed_and_restored_are_uninterrupted(name: str) -> None:
    made = shot(**KINDS[name])
    whole = list(generate(made, MODEL))
    assert all(torch.isfinite(chunk.latents).all() for chunk in whole)
    assert same(list(generate(made, MODEL, whole[:2])), whole[2:])
    loop, restored = Loop(made, MODEL), Loop(made, MODEL)
    stream = loop.chunks()
    finished = [next(stream) for _ in range(3)]
    restored.restore(loop.snapshot())
    rest = list(restored.chunks(finished[loop.index :], finished[-1].in_flight))
    assert same(rest, whole[3:])


@pytest.mark.parametrize("name", KINDS)
def test_the_past_and_each_kind_change_the_video(name: str) -> None:
    plain = chunks()
    assert name == "causal" or not same(chunks(**KINDS[name]), plain)
    others = chunks(**KINDS[name], seed=6)
    assert not same(others, chunks(**KINDS[name]))


def test_a_whole_shot_at_once_needs_no_history() -> None:
    made = chunks(schedule=full_sequence(LADDER), length=6)
    assert [chunk.latents.shape[0] for chunk in made] == [6]


def test_memory_is_that_planned_whatever_the_length() -> None:
    two_rows = 2 * 2 * 24 * CONFIG.dim * 4 * 2  # pairs, layers, cells, channels, float32, rows
    for length in (6, 30):
        made = chunks(length=length, guidance=cfg(2.0))
        planned = planned_bytes(shot(length=length, guidance=cfg(2.0)), CONFIG, torch.float32)
        assert made[-1].kv_bytes == planned == two_rows


@pytest.mark.parametrize("guidance", [Guidance(), cfg(2.0), vanilla(2.0, NOISE)])
def test_the_peak_of_a_rollout_is_within_5_percent_of_the_plan(guidance: Guidance) -> None:
    config = RecurrentConfig(dim=48, num_layers=3, text_dim=TINY.text_dim, in_channels=4,
                             out_channels=4)  # fmt: skip
    tree = RecurrentNetwork(config).requires_grad_(False)
    wide = shot(rows=16, columns=24, length=9, guidance=guidance, prompts=timeline(0))
    plan = rollout_memory(wide, config, torch.float32)
    measured = peak_bytes(
        lambda: list(generate(wide, local_denoiser(tree, config))), convolution_scratch
    )
    assert abs(measured - plan.total_bytes) <= 0.05 * plan.total_bytes, (measured, plan)
    assert plan.total_bytes <= max_bytes(wide, config, torch.float32)


REFUSED: dict[str, dict[str, Any]] = {
    "rebuilt window": {"cache": WindowSink(6)},
    "stored as computed": {"storage": Packed(INT8, 2)},
    "forget all but": {"on_prompt_change": "flush"},
    "memory rules": {"memory": MemoryRules(recency=RecencyBias())},
    "no attention to make sparse": {"sparsity": Sparsity(SparseSelf(0.3, 0.0, (), min_keys=0))},
    "an exact part": {"guidance": temporal(0.5, last(3))},
}


@pytest.mark.parametrize("sentence", REFUSED)
def test_what_needs_single_frames_is_refused_in_a_sentence(sentence: str) -> None:
    with pytest.raises(Unsupported, match=f"its history is a state.*{sentence}"):
        chunks(**REFUSED[sentence])


def rollout(folder: Path, made: RolloutSettings, **own: Any) -> Rollout:
    return Rollout(RolloutSpec(made, MODEL, "recurrent", Journal(folder), **own))


@pytest.mark.parametrize("snapshot_chunks", [0, 1])
def test_a_killed_shot_resumes_from_its_journal_and_a_fork_shares_it(
    tmp_path: Path, snapshot_chunks: int
) -> None:
    whole, shared = list(rollout(tmp_path / "whole", shot()).chunks), tmp_path / "killed"
    cut_after(rollout(shared, shot(), snapshot_chunks=snapshot_chunks), 2)
    assert same(list(rollout(shared, shot(), snapshot_chunks=snapshot_chunks).chunks), whole)
    forked = edit_fork(6).apply(shot())
    ours = list(rollout(shared, forked).chunks)
    assert same(ours, list(rollout(tmp_path / "fresh", forked).chunks))
    assert same(ours[:2], whole[:2]) and not torch.equal(ours[2].latents, whole[2].latents)


def test_a_file_gives_the_same_model_and_others_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "recurrent.safetensors"
    save_file(network().state_dict(), path, recurrent_header())
    tree, config = load_recurrent(path)
    assert config == CONFIG
    ours = list(generate(shot(), local_denoiser(tree, config)))
    assert same(ours, chunks())
    save_file(network().state_dict(), path)
    with pytest.raises(BadInput, match="is not a recurrent model of version 1"):
        load_recurrent(path)
    weights = network().state_dict()
    del weights["layers.1.out.bias"]
    save_file(weights, path, recurrent_header())
    with pytest.raises(BadInput, match=r"layers\.1\.out\.bias"):
        load_recurrent(path)
