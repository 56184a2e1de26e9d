"""A rollout with a state beside its window: streamed as in one pass, resumed, guided, refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from longtake.attention.cache.policy import WindowSink
from longtake.attention.delta.cache import DeltaCache
from longtake.attention.delta.window import DeltaWindow
from longtake.attention.dense import WholeSequence
from longtake.attention.rope import rotation
from longtake.errors import Unsupported
from longtake.model.delta import clip_hooks
from longtake.model.dit import PassOptions, WanDiT, predict, project_text
from longtake.samplers.branches import Branches
from longtake.samplers.current import CurrentSettings
from longtake.samplers.denoiser import local_denoiser
from longtake.samplers.guidance import DROP, NOISE, Guidance, cfg, last, temporal, vanilla
from longtake.samplers.history.plan import planned_bytes
from longtake.samplers.loop import Chunk, Loop, generate
from longtake.samplers.schedule.context_noise import ContextNoise
from longtake.stream.journal.journal import Journal
from longtake.stream.rollout.rollout import Rollout
from longtake.stream.rollout.spec import RolloutSpec
from longtake.tests.support.stream.rollouts import cut_after, edit_fork, rollout
from longtake.tests.support.tiny_model import TINY, randn, random_dit, settings, timeline

CONFIG = replace(TINY, state="delta")
WINDOW, CHUNK, LENGTH = 4, 3, 18
POLICY = DeltaWindow(WINDOW)


def dit(*, trained: bool = True) -> WanDiT:
    """A random model whose states answer something once it is trained."""
    tree = random_dit(CONFIG)
    for block in tree.blocks:
        if not trained:
            block.self_attn.delta.out.weight.zero_()  # type: ignore[union-attr]
    return tree


MODEL, FRESH = local_denoiser(dit(), CONFIG), local_denoiser(dit(trained=False), CONFIG)


def chunks(model: Any = MODEL, **changes: Any) -> list[Chunk]:
    chosen = {"length": LENGTH, "cache": POLICY, **changes}
    return list(generate(settings(**chosen), model))


def same(ours: list[Chunk], theirs: list[Chunk]) -> list[bool]:
    return [torch.equal(a.latents, b.latents) for a, b in zip(ours, theirs, strict=True)]


GUIDED: dict[str, dict[str, Any]] = {
    "plain": {},
    "text": {"guidance": cfg(2.0)},
    "noise": {"guidance": vanilla(2.0, NOISE)},
    "ages": {"guidance": temporal(0.5, last(3))},
    "re-cache": {"on_prompt_change": "re-cache"},
    "flush": {"on_prompt_change": "flush"},
    "sink": {"cache": DeltaWindow(WINDOW, 1)},
}


def plain_window(changes: dict[str, Any]) -> dict[str, Any]:
    return {**changes, "cache": WindowSink(WINDOW, changes.get("cache", POLICY).sink_frames)}


@pytest.mark.parametrize("name", GUIDED)
def test_before_training_a_state_changes_no_bit(name: str) -> None:
    changes = GUIDED[name]
    assert all(same(chunks(FRESH, **changes), chunks(FRESH, **plain_window(changes))))


@pytest.mark.parametrize("name", GUIDED)
def test_a_state_answers_as_soon_as_a_frame_has_left_the_window(name: str) -> None:
    changes = {"prompts": timeline(0, 12), **GUIDED[name]}
    alike = same(chunks(**changes), chunks(**plain_window(changes)))
    assert alike[:2] == [True, True] and not any(alike[2:5])


def test_chunk_by_chunk_is_one_pass_over_the_whole_clip() -> None:
    """The commits' recurrent form against the form for training, the cache against a mask."""
    shot = settings(length=LENGTH, cache=POLICY, prompts=timeline(0))
    branches = Branches(CurrentSettings(shot), MODEL)
    branches.claim()
    branches.use(shot, 0)
    clean = randn(LENGTH - CHUNK, 4, 4, 6, seed=20)
    for first in range(0, len(clean), CHUNK):
        branches.commit(first, clean[first : first + CHUNK])
    row = next(shot.noise_rows(len(clean)))
    noisy = randn(CHUNK, 4, 4, 6, seed=21)
    ours = branches.velocity(noisy, row)
    expected = whole_pass(torch.cat([clean, noisy]), row.now)
    torch.testing.assert_close(ours, expected, rtol=1e-5, atol=1e-5)


@torch.no_grad()
def whole_pass(x: Tensor, now: tuple[float, ...]) -> Tensor:
    """The velocity of the last chunk of x (f, c, h, w), all frames in one pass."""
    start = torch.arange(len(x)) // CHUNK * CHUNK
    frames = torch.arange(len(x))
    sees = (frames < start[:, None] + CHUNK) & (frames >= start[:, None] - WINDOW)
    places = rotation([0], 2, 3, TINY.head_dim)
    hooks = clip_hooks(MODEL.host.claim(0), (start - WINDOW).clamp(min=0).tolist(), places)
    mask = sees.repeat_interleave(6, 0).repeat_interleave(6, 1)
    attention = WholeSequence(rotation(range(len(x)), 2, 3, TINY.head_dim), mask)
    tree = MODEL.host.claim(0)
    text = project_text(tree, timeline(0).entries[0].embedding[None, None])
    levels = torch.tensor([[0.0] * (len(x) - CHUNK) + [*now]])
    prediction = predict(tree, x[None], 1000 * levels, text, attention, PassOptions(hooks=hooks))
    return prediction.velocity[0, -CHUNK:]


@pytest.mark.parametrize("name", GUIDED)
def test_replayed_and_restored_are_uninterrupted(name: str) -> None:
    changes = {"length": LENGTH, "cache": POLICY, "prompts": timeline(0, 9), **GUIDED[name]}
    shot = settings(**changes)
    whole = list(generate(shot, MODEL))
    replayed = list(generate(shot, MODEL, whole[:4]))
    assert all(same(whole[4:], replayed))
    loop, restored = Loop(shot, MODEL), Loop(shot, MODEL)
    stream = loop.chunks()
    finished = [next(stream) for _ in range(5)]
    if loop.settled:
        restored.restore(loop.snapshot())
        rest = list(restored.chunks(finished[loop.index :]))
        assert all(same(whole[5:], rest))


@pytest.mark.parametrize("snapshot_chunks", [0, 1])
def test_a_killed_shot_resumes_from_its_journal_and_a_fork_has_the_state_of_its_chunk(
    tmp_path: Path, snapshot_chunks: int
) -> None:
    made: dict[str, Any] = {"length": LENGTH, "cache": POLICY, "snapshot_chunks": snapshot_chunks}
    whole = list(rollout(tmp_path / "whole", MODEL, **made).chunks)
    cut_after(rollout(tmp_path / "killed", MODEL, **made), 4)
    assert all(same(list(rollout(tmp_path / "killed", MODEL, **made).chunks), whole))
    forked = edit_fork(12).apply(settings(length=LENGTH, cache=POLICY))
    spec = RolloutSpec(forked, MODEL, "model", Journal(tmp_path / "killed"))
    ours = list(Rollout(spec).chunks)
    assert all(same(ours[:4], whole[:4])) and not any(same(ours[4:], whole[4:]))
    fresh = RolloutSpec(forked, MODEL, "model", Journal(tmp_path / "fresh"))
    assert all(same(ours, list(Rollout(fresh).chunks)))


def test_the_bytes_of_states_are_in_the_plan() -> None:
    shot = settings(length=LENGTH, cache=POLICY, guidance=cfg(2.0))
    made = chunks(guidance=cfg(2.0))
    assert made[-1].kv_bytes == planned_bytes(shot, CONFIG, torch.float32)
    window = planned_bytes(replace(shot, cache=WindowSink(WINDOW)), CONFIG, torch.float32)
    assert made[-1].kv_bytes - window == 4 * 2 * 2 * 2 * 12 * 12  # layers, rows, heads


def velocity(guidance: Guidance, committed: int) -> Tensor:
    """The velocity of the chunk after so many latent frames."""
    shot = settings(length=LENGTH, cache=POLICY, prompts=timeline(0), guidance=guidance)
    branches = Branches(CurrentSettings(shot), MODEL)
    branches.claim()
    branches.use(shot, 0)
    for first in range(0, committed, CHUNK):
        branches.commit(first, randn(CHUNK, 4, 4, 6, seed=first))
    cache = branches.caches[0]
    assert isinstance(cache, DeltaCache) and cache.state.absorbed == max(0, committed - WINDOW)
    return branches.velocity(randn(CHUNK, 4, 4, 6, seed=21), next(shot.noise_rows(committed)))


def test_a_view_without_history_reads_no_state() -> None:
    """The state is history too: without any, the model is that of a first chunk."""
    whole, guided = velocity(Guidance(), 9), velocity(vanilla(2.0, DROP), 9)
    torch.testing.assert_close(2 * whole - guided, velocity(Guidance(), 0), rtol=1e-4, atol=1e-4)


def test_a_state_is_refused_where_it_cannot_be() -> None:
    with pytest.raises(Unsupported, match="has no layers to read one"):
        list(generate(settings(cache=POLICY), local_denoiser(random_dit(), TINY)))
    with pytest.raises(Unsupported, match="drawn afresh rebuilds"):
        settings(cache=POLICY, context_noise=ContextNoise(0.1, ramp_frames=4))
