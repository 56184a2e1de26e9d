"""Two sets of weights in one rollout: by noise level, or one that writes what the other reads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from longtake.attention.cache.policy import WindowSink
from longtake.attention.snapshot import Snapshot
from longtake.errors import BadInput
from longtake.model.dit import WanDiT
from longtake.samplers.denoiser import Commits, Denoiser, LocalHost, LowNoise, SecondWeights
from longtake.samplers.experts import is_low
from longtake.samplers.guidance import cfg, fractional
from longtake.samplers.history.plan import planned_bytes
from longtake.samplers.loop import Chunk, Loop, generate
from longtake.samplers.schedule.levels import flow_ladder
from longtake.samplers.schedule.rows import causal_chunks, full_sequence, rolling
from longtake.samplers.settings import RolloutSettings
from longtake.samplers.solvers.noise_process import Flow
from longtake.tests.support.attention.snapshots import through_json
from longtake.tests.support.samplers.two_weights import two_weights_rollout
from longtake.tests.support.tiny_model import TINY, random_dit, settings, timeline

FIRST, SECOND = random_dit(seed=0), random_dit(seed=1)
BELOW = 0.7
SHOT = settings(causal_chunks(flow_ladder(4, 3.0), 3), length=9, prompts=timeline(0))
USES = [LowNoise(BELOW), Commits()]


class CountingHost(LocalHost):
    """A host that notes the claims and passes of its weights in a list that two hosts share."""

    def __init__(self, tree: WanDiT, name: str, log: list[str]) -> None:
        super().__init__(tree)
        self.name, self.log = name, log

    def claim(self, kv_bytes: int) -> Any:
        self.log.append(f"claim {self.name} {kv_bytes}")
        return super().claim(kv_bytes)

    def check_interrupted(self) -> None:
        self.log.append(f"pass {self.name}")


def pair(
    use: LowNoise | Commits, first: WanDiT = FIRST, second: WanDiT = SECOND,
    log: list[str] | None = None,
) -> Denoiser:  # fmt: skip
    """A model of two sets of weights."""
    notes = [] if log is None else log
    other = Denoiser(CountingHost(second, "second", notes), TINY)
    return Denoiser(CountingHost(first, "first", notes), TINY, second=SecondWeights(other, use))


def latents(model: Denoiser, shot: RolloutSettings = SHOT) -> Tensor:
    """All latents (f, c, h, w) of a rollout."""
    return torch.cat([chunk.latents for chunk in generate(shot, model)])


@torch.inference_mode()
def test_each_expert_reads_a_history_of_its_own() -> None:
    """Against passes of everything: the weights of a step also made the keys that it reads."""
    expected = two_weights_rollout(SHOT, (FIRST, SECOND), (FIRST, SECOND), BELOW)
    torch.testing.assert_close(latents(pair(LowNoise(BELOW))), expected, rtol=1e-5, atol=1e-5)
    shared = two_weights_rollout(SHOT, (FIRST, FIRST), (FIRST, SECOND), BELOW)
    assert (shared - expected).abs().max() > 1e-2


@torch.inference_mode()
def test_commits_by_other_weights_are_read_by_the_first() -> None:
    expected = two_weights_rollout(SHOT, (SECOND, SECOND), (FIRST, FIRST), 0.0)
    torch.testing.assert_close(latents(pair(Commits())), expected, rtol=1e-5, atol=1e-5)
    assert (latents(Denoiser(LocalHost(FIRST), TINY)) - expected).abs().max() > 1e-2


@torch.inference_mode()
@pytest.mark.parametrize("use", USES, ids=["by level", "commits"])
@pytest.mark.parametrize(
    "changes", [{}, {"guidance": cfg(2.0)}, {"guidance": fractional(1.5, 0.4)}]
)
def test_equal_weights_twice_are_the_model_alone(
    use: LowNoise | Commits, changes: dict[str, Any]
) -> None:
    """Bit for bit, with a window that evicts and a prompt that changes."""
    shot = replace(SHOT, prompts=timeline(0, 3), cache=WindowSink(4, 1), **changes)
    alone = latents(Denoiser(LocalHost(FIRST), TINY), shot)
    assert torch.equal(latents(pair(use, FIRST, FIRST), shot), alone)


@torch.inference_mode()
def test_a_boundary_of_zero_leaves_the_second_weights_out() -> None:
    alone = latents(Denoiser(LocalHost(FIRST), TINY))
    assert torch.equal(latents(pair(LowNoise(0.0))), alone)


@torch.inference_mode()
@pytest.mark.parametrize("use", USES, ids=["by level", "commits"])
@pytest.mark.parametrize("on_change", ["keep", "re-cache", "flush"])
def test_replay_and_snapshot_go_on_bit_for_bit(use: LowNoise | Commits, on_change: Any) -> None:
    shot = replace(
        SHOT, length=12, prompts=timeline(0, 3, 9), cache=WindowSink(4, 1), guidance=cfg(2.0),
        on_prompt_change=on_change,
    )  # fmt: skip
    loop = Loop(shot, pair(use))
    chunks, snapshots = list[Chunk](), list[Snapshot | None]()
    for chunk in loop.chunks():
        chunks.append(chunk)
        snapshots.append(through_json(loop.snapshot()) if loop.settled else None)
    for count in (1, 2, 3):
        replayed = [*Loop(shot, pair(use)).chunks(chunks[:count])]
        later = chunks[count:]
        same_latents(later, replayed)
        if snapshots[count - 1] is not None:  # not while re-cached for the prompt that comes next
            resumed = Loop(shot, pair(use))
            resumed.restore(snapshots[count - 1])
            same_latents(later, [*resumed.chunks(chunks[count - 1 : count])])
    assert any(snapshots)


def same_latents(one: Sequence[Chunk], other: Sequence[Chunk]) -> None:
    assert all(torch.equal(a.latents, b.latents) for a, b in zip(one, other, strict=True))


def claims(log: list[str]) -> list[str]:
    """The weights that were claimed, one after another."""
    return [line.split()[1] for line in log if line.startswith("claim")]


@torch.inference_mode()
@pytest.mark.parametrize(
    ("use", "order"),
    [
        # at noise, at low noise; a chunk begins with commits by those that are there already
        (LowNoise(BELOW), ["first", "second", "second", "first", "second"]),
        (Commits(), ["first", "second", "first"]),
    ],
    ids=["by level", "commits"],
)
def test_the_host_is_asked_for_the_weights_that_run(
    use: LowNoise | Commits, order: list[str]
) -> None:
    """Weights are claimed when their turn comes, the KV caches of both at the very first claim."""
    log: list[str] = []
    shot, model = replace(SHOT, length=6), pair(use, log=log)
    latents(model, shot)
    assert log[0] == f"claim first {model.histories * planned_bytes(shot, TINY, torch.float32)}"
    assert claims(log) == order
    holder = ""
    for line in log:
        what, name, *_ = line.split()
        assert what == "claim" or name == holder, "a pass of weights that were not claimed"
        holder = name


@torch.inference_mode()
def test_model_evaluations_of_both_are_counted() -> None:
    first, second = generate(replace(SHOT, length=6), pair(LowNoise(BELOW)))
    assert (first.model_evals, second.model_evals) == (4, 4 + 2)
    *_, last = generate(replace(SHOT, length=6), pair(Commits()))
    assert last.model_evals == 4 + 1


@torch.inference_mode()
def test_kv_bytes_are_those_of_both_histories() -> None:
    by_level, by_commit = (
        [chunk.kv_bytes for chunk in generate(SHOT, pair(use))][-1] for use in USES
    )
    assert by_level == 2 * by_commit == 2 * planned_bytes(SHOT, TINY, torch.float32)


def test_a_step_at_the_boundary_is_one_at_high_noise() -> None:
    """As FastVideo and Wan 2.2 have it: the first weights from t = 1000 b up."""
    by_level = LowNoise(0.9)
    assert [is_low(level, by_level, Flow()) for level in (1.0, 0.9, 0.8999, 0.0)] == [
        False, False, True, True,
    ]  # fmt: skip


def test_a_pass_on_both_sides_of_the_boundary_is_refused() -> None:
    schedule = rolling(flow_ladder(4, 3.0), 3)
    with pytest.raises(BadInput, match="boundary 0.7.*causal chunks or full sequence"):
        next(generate(replace(SHOT, schedule=schedule), pair(LowNoise(BELOW))))


@torch.inference_mode()
def test_a_full_sequence_takes_turns_too() -> None:
    """Plain Wan 2.2: all latent frames together, one expert after the other."""
    shot = replace(SHOT, schedule=full_sequence(flow_ladder(4, 3.0)), length=3)
    log: list[str] = []
    made = latents(pair(LowNoise(BELOW), log=log), shot)
    expected = two_weights_rollout(replace(SHOT, length=3), (FIRST, SECOND), (FIRST, SECOND), BELOW)
    torch.testing.assert_close(made, expected, rtol=1e-5, atol=1e-5)
    assert claims(log) == ["first", "second"]


def test_weights_of_another_size_are_refused() -> None:
    wide = replace(TINY, num_layers=3)
    other = Denoiser(LocalHost(random_dit(wide)), wide)
    model = Denoiser(LocalHost(FIRST), TINY, second=SecondWeights(other, Commits()))
    with pytest.raises(BadInput, match="same size"):
        next(generate(SHOT, model))
