"""The number of a shot's chunks is that of its listed chunks, whatever the schedule."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from longtake.samplers.camera.moves import read_motion
from longtake.samplers.camera.script import TimedMotion, path_of_motions
from longtake.samplers.conditioning.known_frame import KnownFrame
from longtake.samplers.conditioning.known_frames import KnownFrames
from longtake.samplers.schedule.levels import flow_ladder
from longtake.samplers.schedule.rows import NoiseSchedule, StaggeredSchedule, causal_chunks
from longtake.stream.journal import chain
from longtake.stream.journal.chain import count_spans, spans
from longtake.stream.journal.journal import root_key
from longtake.tests.support.tiny_model import TINY, randn, settings

LADDERS = [flow_ladder(steps, 3.0) for steps in (1, 2, 4, 7)]
PICTURE = randn(TINY.out_channels, 4, 6)


@st.composite
def schedules(draw: st.DrawFn) -> NoiseSchedule:
    ladder, size = draw(st.sampled_from(LADDERS)), draw(st.integers(1, 4))
    lag = draw(st.sampled_from([0.0, 0.5, 1.0, 1.5, 2.0, 5 / 3, 100.0]))
    opening, mirrored = draw(st.sampled_from([(), *LADDERS])), draw(st.booleans())
    fewer = draw(st.integers(0, size)) if lag >= 1 and not mirrored else 0
    return StaggeredSchedule(ladder, size, lag, opening, mirrored, first_frames=fewer)


@given(schedules(), st.integers(0, 6), st.integers(1, 25))
def test_chunks_are_as_many_as_are_listed(
    schedule: NoiseSchedule, leading: int, generated: int
) -> None:
    known = KnownFrames(tuple(KnownFrame(i, PICTURE, digest=str(i)) for i in range(leading)))
    length = leading + generated
    shot = replace(settings(length=length, schedule=schedule), known_frames=known)
    assert shot.origin == leading
    assert count_spans(shot, length) == len([*spans(shot)])


def test_shots_whose_cameras_turn_at_other_times_have_names_of_their_own() -> None:
    """Or the record of one would take the place of the other's."""
    pan = read_motion("pan left", 1)
    paths = [path_of_motions([TimedMotion(at, pan)], 0.25) for at in (3, 9)]
    shots = [replace(settings(length=12), camera=path) for path in paths]
    assert len({chain.Chain(shot, "model").id for shot in shots}) == 2


def test_a_long_shot_is_not_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chain, "spans", lambda _: pytest.fail("listed"))
    shot = settings(length=3_000_001, schedule=causal_chunks(LADDERS[2], 3, LADDERS[3]))
    assert count_spans(shot, 3_000_001) == 1_000_001


def test_a_schedule_of_equal_chunks_keeps_the_address_from_before_there_were_others() -> None:
    """Written by a version whose schedules had no field for the first chunk."""
    schedule = causal_chunks(flow_ladder(2, 3.0), 3)
    before = "219dffadbb76116d472a5954ec983f191d00af70b65b09237d86cb8606d6d72f"
    assert root_key({"schedule": schedule}) == before
    assert root_key({"schedule": replace(schedule, first_frames=1)}) != before
