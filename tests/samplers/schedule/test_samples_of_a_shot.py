"""Parts of a shot that stand for all of it: compared with a walk through every row."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import islice

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from longtake.samplers.schedule.levels import flow_ladder
from longtake.samplers.schedule.rows import StaggeredSchedule, pipeline
from longtake.tests.support.laws import examples

LAGS = (0.0, 0.05, 0.15, 0.3, 0.45, 0.5, 0.7, 1.0, 1.2, 5 / 3, 2.0, 3.7, math.inf)
MANY = 400  # latent frames


@st.composite
def schedules(draw: st.DrawFn) -> StaggeredSchedule:
    """Small schedules of every lag."""
    opening, size = draw(st.sampled_from((0, 1, 9))), draw(st.integers(1, 3))
    lag, mirrored = draw(st.sampled_from(LAGS)), draw(st.booleans())
    return StaggeredSchedule(
        flow_ladder(draw(st.integers(1, 4)), 3.0),
        size,
        lag,
        flow_ladder(opening, 3.0) if opening else (),
        mirrored,
        first_frames=draw(st.integers(0, size)) if lag >= 1 and not mirrored else 0,
    )


@examples(300)
@given(schedule=schedules(), frames=st.integers(1, MANY), origin=st.integers(0, 3))
def test_parts_of_rows_say_what_the_rows_say(
    schedule: StaggeredSchedule, frames: int, origin: int
) -> None:
    shot = origin, origin + frames, origin
    for row, parts in zip(schedule.rows(*shot), schedule.row_parts(*shot), strict=True):
        said = zip(row.frames, row.now, row.after, row.steps, row.of_steps, strict=True)
        by_part = (
            (frame, part.now, part.after, part.step, part.of_steps)
            for part in parts
            for frame in part.frames
        )
        assert [*by_part] == [*said]


@examples(150)
@given(schedule=schedules(), chunks=st.integers(1, 40), origin=st.integers(0, 3))
def test_rows_repeat_and_few_frames_have_started(
    schedule: StaggeredSchedule, chunks: int, origin: int
) -> None:
    """In the middle of a shot, behind the first chunk and those that start with it."""
    if schedule.mirrored or not schedule.lag:
        schedule = replace(schedule, mirrored=False, lag=1.0)
    size, again = schedule.chunk_frames, schedule.repeats_after
    first = schedule.chunk_base(origin) + (chunks + 20) * size

    def steps_from(first: int) -> list[list[tuple[int, ...]]]:
        rows = islice(schedule.rows(first, None, origin), 12)
        return [[row.first - first, *row.steps] for row in rows]

    assert steps_from(first) == steps_from(first + again * size)
    rows = islice(schedule.rows(origin, None, origin), 60)
    assert max(len(row.frames) for row in rows) <= schedule.started_frames


@pytest.mark.parametrize(
    ("lag", "chunks"), [(1.0, 1), (1.5, 2), (5 / 3, 3), (1.37, 100), (math.pi, 99), (math.inf, 1)]
)
def test_rows_repeat_after_so_many_chunks(lag: float, chunks: int) -> None:
    """The fraction with at most 100 below the line that is nearest."""
    assert StaggeredSchedule(flow_ladder(4, 1.0), 2, lag).repeats_after == chunks


@pytest.mark.parametrize("mirrored", [False, True])
def test_a_row_of_any_shot_has_few_parts(mirrored: bool) -> None:
    """Wherever in a shot the row is: also where its ends are clean and its middle waits."""
    schedule = StaggeredSchedule(flow_ladder(4, 1.0), 2, 0.5, mirrored=mirrored)
    for first in (0, 20_000, 40_000):
        rows = islice(schedule.row_parts(first, 100_000), 6)
        assert max(map(len, rows)) <= 12


@examples(300)
@given(schedule=schedules(), frames=st.integers(1, 90), origin=st.integers(0, 3))
@example(StaggeredSchedule(flow_ladder(1, 3.0), 1, 0.45), 30, 0)
def test_two_rows_at_least_finish_frames_after_a_place_near_the_end(
    schedule: StaggeredSchedule, frames: int, origin: int
) -> None:
    length = origin + frames
    second = origin + (schedule.first_frames if not origin else 0)
    start = schedule.before_two_finishes(length, origin)
    rows, later = schedule.rows(origin, length, origin), schedule.rows(start, length, origin)
    finished, after = ([row.first for row in all_of if row.finished] for all_of in (rows, later))
    assert start >= origin and start in {origin, *range(second, length, schedule.chunk_frames)}
    assert after == finished[-len(after) :] and len(after) >= min(2, len(finished))
    assert len(after) <= 4 or schedule.lag < 1


@pytest.mark.parametrize("steps", [*range(1, 9), 15, 17])
def test_as_many_chunks_are_active_as_a_pipeline_has_in_flight(steps: int) -> None:
    """Also where the lag is a fraction that floating point rounds: 15 steps at a lag of 15 / 13."""
    for in_flight in range(1, steps + 1):
        schedule = pipeline(flow_ladder(steps, 3.0), 2, in_flight)
        most = max(len(row.frames) for row in schedule.rows(0, 12 * steps))
        assert schedule.active_frames(None) == schedule.active_frames(12 * steps) == most
        assert most == 2 * in_flight
