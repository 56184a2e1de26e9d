"""Lengths in whole chunks, where the first chunk may be shorter than the others."""

from __future__ import annotations

import pytest

from longtake.nodes.length import FRAMES, Length, length_of, snapped_length
from longtake.samplers.schedule.levels import flow_ladder
from longtake.samplers.schedule.rows import StaggeredSchedule
from longtake.tests.support.tiny_model import settings

SHORT = StaggeredSchedule(flow_ladder(2, 3.0), 3, first_frames=1)


@pytest.mark.parametrize(
    ("frames", "latent_frames"), [(1, 1), (2, 4), (13, 4), (14, 7), (33, 10), (37, 10), (38, 13)]
)
def test_a_shot_is_its_first_chunk_and_whole_ones(frames: int, latent_frames: int) -> None:
    length = snapped_length(frames, FRAMES, 16.0, 3, SHORT.chunk_base(0))
    assert length.latent_frames == latent_frames
    assert bool(length.notes) == (length.frames != frames)


@pytest.mark.parametrize(("frames", "latent_frames"), [(1, 1), (5, 2), (6, 5), (17, 5), (18, 8)])
def test_given_frames_take_the_place_of_the_first_chunk(frames: int, latent_frames: int) -> None:
    length = snapped_length(frames, FRAMES, 16.0, 3, SHORT.chunk_base(2))
    assert length.latent_frames == latent_frames


def test_the_length_of_a_rollout_counts_its_chunks() -> None:
    assert length_of(settings(SHORT, 7), 7, 16.0) == Length(7, 3, 25, 16.0, -2)
