"""A first chunk of fewer latent frames than every other one: chunks 0 | 1-3 | 4-6 and so on."""

from __future__ import annotations

from dataclasses import replace
from itertools import islice

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from longtake.attention.cache.policy import FullHistory, WindowSink
from longtake.errors import BadInput
from longtake.samplers.conditioning.known_frames import from_latents
from longtake.samplers.guidance import NOISE, vanilla
from longtake.samplers.loop import generate
from longtake.samplers.schedule.levels import flow_ladder
from longtake.samplers.schedule.rows import StaggeredSchedule, causal_chunks, pyramid, rolling
from longtake.samplers.settings import RolloutSettings
from longtake.tests.support.laws import examples
from longtake.tests.support.samplers.brute_force import Guided, Term, Way, rollout
from longtake.tests.support.samplers.guided_rollouts import CLOSE, DIT, MODEL, joined
from longtake.tests.support.tiny_model import TINY, randn, settings, timeline

LADDER = flow_ladder(2, 3.0)
SHORT = replace(causal_chunks(LADDER, 3), first_frames=1)
ROLLING = replace(rolling(flow_ladder(3, 3.0), 3), first_frames=2)
SHOTS: dict[str, RolloutSettings] = {
    "window": settings(SHORT, 12, cache=WindowSink(5, 1), prompts=timeline(0, 1, 7)),
    "two guidances": settings(SHORT, 9, guidance=vanilla(2.0, NOISE), prompts=timeline(0, 4)),
    "own steps": settings(replace(SHORT, first_ladder=flow_ladder(4, 3.0)), 8),
    "rolling": settings(ROLLING, 12, prompts=timeline(0, 2, 8), on_prompt_change="re-cache"),
}


@pytest.mark.parametrize("length", [1, 2, 4, 5, 11])
@pytest.mark.parametrize("opening", [(), flow_ladder(3, 3.0)])
def test_rows_are_those_of_a_loop_over_the_chunks(length: int, opening: tuple[float, ...]) -> None:
    schedule, expected = replace(SHORT, first_ladder=opening), []
    for chunk in ([0], [1, 2, 3], [4, 5, 6], [7, 8, 9], [10, 11, 12]):
        frames = [frame for frame in chunk if frame < length]
        ladder = opening if opening and chunk == [0] else LADDER
        for step in range(len(ladder) - 1 if frames else 0):
            now, after = ([level] * len(frames) for level in ladder[step : step + 2])
            expected.append((frames, now, after, [step] * len(frames)))
    rows = [*schedule.rows(0, length)]
    assert [([*r.frames], [*r.now], [*r.after], [*r.steps]) for r in rows] == expected
    assert [*islice(schedule.rows(0, None), 4)] == [*islice(schedule.rows(0, 12), 4)]
    assert schedule.active_frames(length) == max(len(frames) for frames, *_ in expected)


@examples(60)
@given(size=st.integers(2, 5), fewer=st.integers(1, 4), frame=st.integers(0, 40))
def test_settings_count_chunks_as_rows_do(size: int, fewer: int, frame: int) -> None:
    schedule = replace(causal_chunks(LADDER, size), first_frames=min(fewer, size - 1))
    shot = settings(schedule, None)
    begins = [0, *range(schedule.first_frames, 50, size)]
    assert shot.chunk_start(frame) == max(at for at in begins if at <= frame)
    assert shot.next_chunk(frame) == min(at for at in begins if at >= frame)


def test_given_frames_take_the_place_of_the_short_chunk() -> None:
    plain = replace(SHORT, first_frames=0)
    for origin in (1, 2, 3):
        assert [*SHORT.rows(0, 11, origin)] == [*plain.rows(0, 11, origin)]
        assert SHORT.active_frames(11, origin) == plain.active_frames(11, origin)
    whole = settings(SHORT, 3, known_frames=from_latents(randn(3, 4, 4, 6)))
    assert [*SHORT.rows(3, 3, 3)] == [] and SHORT.chunks_in_turn(3, 3) == 0
    assert [chunk.first_frame for chunk in generate(whole, MODEL)] == [0]


def test_a_rollout_is_the_whole_sequence_passed_without_a_cache() -> None:
    """In the reference, chunks of three that began two latent frames before the shot."""
    prompts = timeline(0, 2, 7)  # from the chunks at 4 and 7 on
    made = settings(SHORT, 10, prompts=prompts, cache=FullHistory())
    way = Way(LADDER, 3, origin=-2)
    expected = rollout(DIT, prompts, way, Guided(lambda first: [Term(1, range(first))]), 10)
    torch.testing.assert_close(joined([*generate(made, MODEL)]), expected, **CLOSE)


@pytest.mark.parametrize("name", SHOTS)
def test_a_replay_after_any_chunk_goes_on_with_the_same_bits(name: str) -> None:
    chunks = [*generate(SHOTS[name], MODEL)]
    assert [len(chunk.latents) for chunk in chunks[:3]] == [SHOTS[name].next_chunk(1), 3, 3]
    for count in range(1, len(chunks)):
        again = [*generate(SHOTS[name], MODEL, chunks[:count])]
        assert torch.equal(joined(again), joined(chunks[count:]))


def test_the_first_chunk_has_the_prompt_at_its_frames_alone() -> None:
    """The next prompt, a latent frame later, changes no bit of it."""
    one, two = (
        next(iter(generate(settings(SHORT, 4, prompts=timeline(*starts)), MODEL)))
        for starts in ((0,), (0, 1))
    )
    assert torch.equal(one.latents, two.latents)
    assert one.latents.shape[0] == 1 and one.latents.shape[1] == TINY.out_channels


def test_a_first_chunk_of_all_frames_is_an_ordinary_one() -> None:
    assert replace(SHORT, first_frames=3) == replace(SHORT, first_frames=0)


@pytest.mark.parametrize(
    ("schedule", "frames", "words"),
    [
        (SHORT, 4, "at most the 3 latent frames of every chunk; got 4"),
        (SHORT, -1, "at most the 3 latent frames of every chunk; got -1"),
        (StaggeredSchedule(LADDER, 3, 0.5), 1, "clean one after another"),
        (StaggeredSchedule(LADDER, 3, mirrored=True), 2, "clean one after another"),
    ],
)
def test_what_no_schedule_can_make_is_refused(
    schedule: StaggeredSchedule, frames: int, words: str
) -> None:
    with pytest.raises(BadInput, match=words):
        replace(schedule, first_frames=frames)
    assert pyramid(LADDER).first_frames == 0
