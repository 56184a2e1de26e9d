"""Histories that are no whole chunks, because of given frames at the front, a flush or a window:
every view equals the reference without a cache, and pure noise is exactly as long as the history.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from longtake.attention.cache.policy import FullHistory, WindowSink
from longtake.samplers.branches import Branches
from longtake.samplers.conditioning.known_frames import KnownFrame, KnownFrames
from longtake.samplers.current import CurrentSettings
from longtake.samplers.guidance import NOISE, Branch, Guidance, cfg, extend, vanilla
from longtake.samplers.loop import Loop, generate
from longtake.samplers.schedule.levels import flow_ladder
from longtake.samplers.schedule.rows import (
    StaggeredSchedule,
    asynchronous,
    causal_chunks,
    pyramid,
    rolling,
)
from longtake.samplers.settings import RolloutSettings
from longtake.tests.support.samplers.brute_force import Guided, Term, Terms, Way, rollout
from longtake.tests.support.samplers.guidance_cases import CASES, NEGATIVE, whole, windowed
from longtake.tests.support.samplers.guided_rollouts import DIT, MODEL
from longtake.tests.support.tiny_model import randn, settings, timeline

LENGTH, LADDER = 11, flow_ladder(2, 3.0)
PROMPTS = timeline(0, 3, 7)
WAYS: dict[str, tuple[StaggeredSchedule, Way]] = {
    "causal chunks": (causal_chunks(LADDER, 3), Way(LADDER, 3)),
    "pyramid": (pyramid(LADDER), Way(LADDER, 1, 1)),
    "rolling": (rolling(LADDER, 2), Way(LADDER, 2, 1)),
    "asynchronous": (asynchronous(LADDER, 2, 2), Way(LADDER, 2, 2, causal=True)),
    "asynchronous, chunks of 3": (asynchronous(LADDER, 3, 1), Way(LADDER, 3, 1, causal=True)),
}
NOISY = [name for name, (guidance, _) in CASES.items() if any(
    branch.view.pure_noise for branch in guidance.all_branches)]  # fmt: skip
ONLY_NOISE = Guidance((Branch(1.0, "negative", NOISE),))


def given(front: int) -> dict[int, Tensor]:
    """The latents of `front` known frames at the start."""
    return {frame: randn(4, 4, 6, seed=frame) for frame in range(front)}


def shot(schedule: StaggeredSchedule, front: int, **changes: Any) -> RolloutSettings:
    """A rollout after `front` given latent frames."""
    known = KnownFrames(tuple(KnownFrame(f, x) for f, x in given(front).items()))
    chosen = {"prompts": PROMPTS, "cache": FullHistory(), "known_frames": known, **changes}
    return settings(schedule, LENGTH, **chosen)


def latents(made: RolloutSettings) -> Tensor:
    """All latent frames."""
    return torch.cat([chunk.latents for chunk in generate(made, MODEL)])


def reference(way: Way, front: int, terms: Terms) -> Tensor:
    """The same without a cache."""
    after_front = dataclasses.replace(way, origin=front)
    return rollout(DIT, PROMPTS, after_front, Guided(terms), LENGTH, given(front))


def assert_same(made: Tensor, expected: Tensor) -> None:
    """Equal to 1e-5 of the largest value."""
    torch.testing.assert_close(made, expected, rtol=0, atol=1e-5 * float(expected.abs().max()))


@pytest.mark.each_value
@pytest.mark.parametrize("front", [1, 2, 4])
@pytest.mark.parametrize("name", CASES)
def test_every_view_is_exact_after_a_front_of_any_length(name: str, front: int) -> None:
    guidance, terms = CASES[name]
    schedule, way = WAYS["causal chunks"]
    assert_same(latents(shot(schedule, front, guidance=guidance)), reference(way, front, terms))


@pytest.mark.each_value
@pytest.mark.parametrize("front", [1, 5])
@pytest.mark.parametrize("way", [name for name in WAYS if name != "causal chunks"])
@pytest.mark.parametrize("name", NOISY)
def test_noise_is_exact_after_a_front_where_chunks_share_a_pass(
    name: str, way: str, front: int
) -> None:
    guidance, terms = CASES[name]
    schedule, as_written = WAYS[way]
    made = latents(shot(schedule, front, guidance=guidance))
    assert_same(made, reference(as_written, front, terms))


@pytest.mark.each_value
@pytest.mark.parametrize("window", [4, 5, 6])
@pytest.mark.parametrize("front", [0, 1, 2])
@pytest.mark.parametrize("name", NOISY)
def test_noise_is_as_long_as_what_a_window_of_any_length_holds(
    name: str, front: int, window: int
) -> None:
    guidance, terms = CASES[name]
    schedule, way = WAYS["causal chunks"]
    made = latents(shot(schedule, front, guidance=guidance, cache=WindowSink(window)))
    assert_same(made, reference(way, front, windowed(terms, window)))


def after_flushes(switches: Sequence[int], sink: int) -> Callable[[int], list[int]]:
    """What is left of the frames before a chunk, if the prompt changes at chunks `switches`."""

    def held(first: int) -> list[int]:
        left: list[int] = []
        for frame in range(first + 1):
            if frame in switches and left:
                left = [*left[: min(sink, len(left) - 1)], left[-1]]
            left = [*left, frame] if frame < first else left
        return left

    return held


@pytest.mark.parametrize("sink", [0, 1, 2])
@pytest.mark.parametrize(("front", "switches"), [(0, (3, 9)), (1, (4, 7))])
def test_noise_is_as_long_as_what_a_flush_leaves(
    front: int, switches: tuple[int, int], sink: int
) -> None:
    schedule, way = WAYS["causal chunks"]
    held = after_flushes(switches, sink)

    def terms(first: int) -> list[Term]:
        there = held(first)
        return [Term(1.0, there, level=1.0, recommitted=True, held=there, **NEGATIVE)]

    changed = shot(
        schedule,
        front,
        guidance=ONLY_NOISE,
        on_prompt_change="flush",
        cache=WindowSink(LENGTH, sink),
    )
    assert_same(latents(changed), reference(way, front, terms))


@pytest.mark.some_cases(1)
@pytest.mark.each_value
@pytest.mark.parametrize("cache", [FullHistory(), WindowSink(5, 1), WindowSink(4)], ids=str)
@pytest.mark.parametrize("changes", ["keep", "flush", "re-cache"])
def test_replay_and_snapshots_continue_bit_for_bit_after_one_picture(
    cache: FullHistory | WindowSink, changes: str
) -> None:
    guidance = extend(cfg(2.0), vanilla(1.5))
    made = shot(WAYS["causal chunks"][0], 1, guidance=guidance, cache=cache,
                on_prompt_change=changes)  # fmt: skip
    whole_shot = [*generate(made, MODEL)]
    for finished in range(1, len(whole_shot)):
        expected = torch.cat([chunk.latents for chunk in whole_shot[finished:]])
        replayed = generate(made, MODEL, whole_shot[:finished])
        assert torch.equal(torch.cat([chunk.latents for chunk in replayed]), expected)
        loop = Loop(made, MODEL)
        chunks = loop.chunks()
        for _ in range(finished):
            next(chunks)
        again = Loop(made, MODEL)
        again.restore(loop.snapshot())
        rest = again.chunks(whole_shot[finished - 1 : finished])
        assert torch.equal(torch.cat([chunk.latents for chunk in rest]), expected)


@pytest.mark.parametrize("front", range(1, 9))
def test_the_noise_cache_is_never_longer_than_the_history(front: int) -> None:
    guided = shot(WAYS["causal chunks"][0], front, guidance=vanilla(2.0))
    branches = Branches(CurrentSettings(guided), MODEL)
    branches.claim()
    branches.use(guided, 0)
    for row in guided.noise_rows():
        branches.velocity(torch.zeros(len(row.now), 4, 4, 6), row)
        if row.finished:
            branches.commit(row.first, torch.zeros(row.finished, 4, 4, 6))
        history = branches.history
        lengths = [len(cache.kept_frames) for cache in history.caches]
        noise = [plan.fill_mode == "noise" for plan in history.plans].index(True)
        assert lengths[noise] <= lengths[0]


def test_what_the_reference_calls_the_front_changes_its_video() -> None:
    """So that equality above is no accident."""
    way, terms = WAYS["causal chunks"][1], whole(1.0)
    aligned = rollout(DIT, PROMPTS, way, Guided(terms), LENGTH, given(1))
    assert (aligned - reference(way, 1, terms)).abs().max() > 1e-2
