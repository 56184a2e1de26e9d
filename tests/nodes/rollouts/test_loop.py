"""Splice Rollouts without a second shot: a video that repeats without a seam."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from longtake.tests.support.node_bench import Bench
from longtake.tests.support.nodes.steps import pictures as made_pictures
from longtake.tests.support.nodes.unfinished_video import (
    SPLICE,
    at_chunk,
    cancelled,
    pictures,
    pieces,
    save,
)


def looped(bench: Bench, length: float = 45.0, **inputs: Any) -> Any:
    """A shot that repeats; every call opens it anew, as another run does."""
    return bench.run(SPLICE, first=bench.frames(length=length), **inputs)[0]


def test_a_shot_repeats_without_a_seam(bench: Bench) -> None:
    frames, shot = looped(bench, overlap=6), made_pictures(bench, bench.frames(length=45.0))
    video = made_pictures(bench, frames)
    assert frames.frame_total == len(video) == 39
    assert torch.equal(video[:33], shot[6:39])
    steps = (video - video.roll(1, 0)).abs().mean((1, 2, 3))
    assert steps[0] <= steps[1:33].max()  # from the last picture to the first


@pytest.mark.parametrize("length", [9.0, 21.0, 57.0])
@pytest.mark.parametrize("overlap", [1, 4, 8, 9, 10, 40])
def test_what_a_piece_is_made_of_is_known_before_it_is_made(
    bench: Bench, length: float, overlap: int
) -> None:
    frames = looped(bench, length, overlap=overlap)
    keys = [frames.content_key(index) for index in range(12)]
    made = list(frames.chunks)
    assert frames._unplanned == {}
    assert None not in keys[: len(made)] and len({*keys[: len(made)]}) == len(made)
    assert {*keys[len(made) :]} == {None}
    first = [chunk.first_frame for chunk in made]
    assert [frames.planned_piece(frame) for frame in first] == list(range(len(made)))
    assert looped(bench, length, overlap=overlap, method="best cut").content_key(0) != keys[0]


@pytest.mark.parametrize("chunks", [2, 3])
def test_a_cancelled_loop_goes_on_and_is_that_of_an_unbroken_run(bench: Bench, chunks: int) -> None:
    cancelled(bench, looped(bench), chunks)
    assert pieces(bench) > 0
    video = save(bench, looped(bench))
    assert video.name == "clip_00001_.mkv" and not pieces(bench)
    whole = save(bench, looped(bench))
    assert len(pictures(video)) == 45 - 8
    assert all(map(np.array_equal, pictures(video), pictures(whole)))


def test_a_stopped_shot_repeats_too(bench: Bench) -> None:
    frames = looped(bench)
    at_chunk(bench, 2, frames.controls.stop)
    assert len(pictures(save(bench, frames))) == 21 - 8


def test_what_cannot_repeat_is_refused(bench: Bench) -> None:
    endless = bench.frames(length=0.0)
    assert "no end (its length is 0), so it cannot repeat" in bench.refusal(SPLICE, first=endless)
    assert "`overlap` of 1" in bench.refusal(SPLICE, first=bench.frames(length=9.0), overlap=0)
