"""Newest wins: what a slow run gets of a source, and what it leaves out."""

from __future__ import annotations

import pytest

from longtake.stream.incoming.picture_buffer import PictureBuffer


def fill(buffer: PictureBuffer[int], fps: float, first: int, stop: int) -> None:
    """Pictures `first` to `stop` of a source, each worth its number."""
    for number in range(first, stop):
        buffer.add(number / fps, number)


def test_a_run_that_keeps_up_gets_every_frame_once() -> None:
    buffer, taken = PictureBuffer[int](16, 12), []
    for chunk in range(5):
        fill(buffer, 16, 12 * chunk, 12 * chunk + 12)
        assert buffer.is_ready(12) and not buffer.is_ready(13)
        taken += buffer.take(12)
    assert taken == [*range(60)] and buffer.dropped == 0


@pytest.mark.parametrize("fps", [16, 24, 30, 59.94])
def test_times_in_whole_milliseconds_lose_and_repeat_no_frame(fps: float) -> None:
    """As in the containers that cameras send; a chunk is there with its last picture."""
    buffer, taken = PictureBuffer[int](fps, 12), []
    for chunk in range(40):
        for number in range(12 * chunk, 12 * chunk + 12):
            assert chunk == 0 or not buffer.is_ready(12)
            buffer.add(round(number / fps, 3), number)
        assert buffer.is_ready(12)
        taken += buffer.take(12)
    assert taken == [*range(480)] and buffer.dropped == 0


def test_a_slow_run_gets_the_newest_and_counts_what_it_left_out() -> None:
    buffer = PictureBuffer[int](16, 12)
    fill(buffer, 16, 0, 12)
    buffer.take(12)
    fill(buffer, 16, 12, 100)
    assert buffer.take(12, before=1) == [*range(87, 100)]
    assert buffer.dropped == 76


def test_a_run_that_is_a_little_late_leaves_nothing_out() -> None:
    buffer = PictureBuffer[int](16, 12)
    fill(buffer, 16, 0, 12)
    assert buffer.take(12) == [*range(12)]
    fill(buffer, 16, 12, 26)
    assert buffer.take(12, before=1) == [*range(11, 24)]
    assert buffer.dropped == 0
    fill(buffer, 16, 26, 36)
    assert buffer.is_ready(12) and buffer.take(12) == [*range(24, 36)]


@pytest.mark.parametrize(("fps", "expected"), [
    (32, [*range(1, 24, 2)]),
    (8, [0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6]),
])  # fmt: skip
def test_another_rate_is_brought_to_the_shots(fps: float, expected: list[int]) -> None:
    buffer = PictureBuffer[int](16, 12)
    fill(buffer, fps, 0, expected[-1] + 1)
    assert buffer.take(12) == expected


def test_memory_is_bounded() -> None:
    buffer = PictureBuffer[int](16, 12)
    fill(buffer, 60, 0, 10_000)
    assert len(buffer._pictures) <= 60 * 15 / 16 + 2


def test_nothing_old_is_taken_after_a_loss() -> None:
    buffer = PictureBuffer[int](16, 12)
    fill(buffer, 16, 0, 12)
    buffer.take(12)
    buffer.forget()
    assert not buffer.is_ready(12)
    fill(buffer, 16, 200, 211)
    assert not buffer.is_ready(12)
    fill(buffer, 16, 211, 212)
    assert buffer.is_ready(12) and buffer.take(12) == [*range(200, 212)]
    assert buffer.dropped == 0, "nothing came that was left out"


def test_a_source_whose_clock_ran_ahead_is_taken_at_once_when_it_is_back() -> None:
    """A camera's clock gains seconds in days; after a loss its times begin at the machine's."""
    buffer = PictureBuffer[int](16, 12)
    fill(buffer, 16, 500, 512)
    buffer.take(12)
    buffer.forget()
    fill(buffer, 16, 100, 112)
    assert buffer.is_ready(12) and buffer.take(12) == [*range(100, 112)]


def test_a_source_that_was_lost_in_between_gives_nothing() -> None:
    buffer = PictureBuffer[int](16, 12)
    fill(buffer, 16, 0, 12)
    assert buffer.is_ready(12)
    buffer.forget()
    assert buffer.take(12) == [] and not buffer.is_ready(1)


@pytest.mark.parametrize(("fps", "most"), [(16, 1.0), (32, 2.0), (60, 2.0), (240, 2.2)])
def test_of_a_fast_source_few_pictures_are_held_and_none_is_late(fps: float, most: float) -> None:
    """The newest one always counts; another one is at most half a frame older than it could be."""
    buffer, first = PictureBuffer[int](16, 88), round(12 * fps / 16)
    fill(buffer, fps, 0, 4 * first)
    held = len(buffer._pictures)
    assert held <= most * 4 * 12 + 2
    wanted = [4 * first - 1 - back * fps / 16 for back in reversed(range(12))]
    taken = buffer.take(12)
    assert taken[-1] == 4 * first - 1
    assert all(
        -0.5 - 1e-9 <= (a - b) * 16 / fps <= 1e-9 for a, b in zip(taken, wanted, strict=True)
    )
