"""A schedule begins anywhere at once: the same rows as when it is walked from the beginning."""

from __future__ import annotations

import math
from itertools import islice

import pytest
from hypothesis import given
from hypothesis import strategies as st

from longtake.samplers.schedule.levels import flow_ladder
from longtake.samplers.schedule.rows import (
    StaggeredSchedule,
    causal_chunks,
    full_sequence,
    pyramid,
    rolling,
    trapezoid,
)
from longtake.samplers.schedule.timing import Timing
from longtake.tests.support.laws import examples
from longtake.tests.support.samplers.schedule_walk import walk_rows

A_DAY = 345_601  # latent frames at 16 frames a second
LAGS = (0.0, 0.01, 0.3, 0.5, 1.0, 1.5, 5 / 3, 2.0, 3.7, math.inf)


@examples(150)
@given(
    steps=st.integers(1, 6),
    opening=st.integers(0, 9),
    chunk=st.integers(1, 4),
    fewer=st.integers(0, 3),
    lag=st.sampled_from(LAGS),
    mirrored=st.booleans(),
    reach=st.sampled_from([(), (3, 2)]),
    length=st.integers(1, 30),
    origin=st.integers(0, 4),
    first=st.integers(0, 32),
)
def test_rows_from_any_frame_are_those_of_the_walk(  # noqa: PLR0913
    steps: int,
    opening: int,
    chunk: int,
    fewer: int,
    lag: float,
    mirrored: bool,
    reach: tuple[int, ...],
    length: int,
    origin: int,
    first: int,
) -> None:
    schedule = StaggeredSchedule(
        flow_ladder(steps, 3.0),
        chunk,
        lag,
        flow_ladder(opening, 3.0) if opening else (),
        mirrored,
        reach=reach,
        first_frames=fewer if fewer < chunk and lag >= 1 and not mirrored else 0,
    )
    shot = first, max(length, origin), origin
    assert [*schedule.rows(*shot)] == [*walk_rows(schedule, *shot)]
    if lag and not mirrored:
        endless = first, None, origin
        ours, walked = schedule.rows(*endless), walk_rows(schedule, *endless)
        assert [*islice(ours, 40)] == [*islice(walked, 40)]


@pytest.mark.parametrize(
    "schedule",
    [
        causal_chunks(flow_ladder(4, 3.0)),
        rolling(flow_ladder(4, 3.0)),
        pyramid(flow_ladder(50, 3.0), 0.01),
        full_sequence(flow_ladder(50, 3.0)),
        trapezoid(flow_ladder(50, 3.0), 0.01),
    ],
    ids=["causal", "rolling", "pyramid", "sequence", "trapezoid"],
)
def test_the_work_of_a_row_does_not_grow_with_the_shot(
    schedule: StaggeredSchedule, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Counted in chunks looked at; a row of a day's trapezoid has 345,600 frames in few runs."""
    asked = 0
    start = Timing.start

    def counted(timing: Timing, chunk: int) -> int:
        nonlocal asked
        asked += 1
        return start(timing, chunk)

    monkeypatch.setattr(Timing, "start", counted)
    late = 0 if schedule.mirrored or schedule.lag == 0 else A_DAY - 31
    for row in islice(schedule.rows(late, A_DAY), 3):
        assert row.first >= late
    assert asked < 500
