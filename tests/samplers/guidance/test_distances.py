"""Parts of a history whose frames stay where they were in time, however many have left."""

from __future__ import annotations

import pytest
import torch

from longtake.attention.cache.placed_windows import DistantSink
from longtake.attention.cache.policy import CachePolicy, MemoryBank
from longtake.samplers.guidance import AgeRange, Branch, FrameSelection, Guidance, SinkFrames, View
from longtake.samplers.loop import generate
from longtake.tests.support.samplers.brute_force import Guided, Term, Way, rollout
from longtake.tests.support.samplers.guided_rollouts import DIT, MODEL
from longtake.tests.support.tiny_model import CHUNKS, settings, timeline

LENGTH, SINK, WINDOW = 15, 2, 5
LADDER = CHUNKS.ladder


def in_window(first: int) -> list[int]:
    """The frames that the window holds before latent frame `first`."""
    return [f for f in range(first) if f < SINK or f >= first - (WINDOW - SINK)]


@pytest.mark.parametrize(
    ("seen", "oldest_age", "newest_age"),
    [(SinkFrames(), LENGTH, 0), (AgeRange(1, 20), 20, 1), (AgeRange(3, 20), 20, 3)],
)
@pytest.mark.parametrize("cache", [DistantSink(WINDOW, SINK), MemoryBank(WINDOW, SINK)])
def test_a_part_that_is_passed_alone_keeps_its_distance(
    cache: CachePolicy, seen: FrameSelection, oldest_age: int, newest_age: int
) -> None:
    def terms(first: int) -> list[Term]:
        ages = range(newest_age, oldest_age + 1)
        frames = [f for f in in_window(first) if first - f in ages]
        if isinstance(seen, SinkFrames):
            frames = [f for f in frames if f < SINK]
        return [Term(1.0, frames)]

    guidance = Guidance((Branch(1.0, view=View(seen, exact=True)),))
    shot = settings(CHUNKS, LENGTH, prompts=timeline(0), cache=cache, guidance=guidance)
    made = torch.cat([chunk.latents for chunk in generate(shot, MODEL)])
    expected = rollout(DIT, timeline(0), Way(LADDER, 3), Guided(terms), LENGTH)
    torch.testing.assert_close(made, expected, rtol=0, atol=1e-5 * float(expected.abs().max()))
