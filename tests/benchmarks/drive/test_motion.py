"""The detector finds the first moved picture, and nothing where only the ball moves."""

from __future__ import annotations

import numpy as np
import pytest

from longtake.benchmarks.drive.motion import (
    MOVED_PX,
    STILL,
    Pictures,
    jumps,
    onset,
    shift_of,
    still_jumps,
)

FRAME_MS = 62.5
PRESS_MS = 15.2 * FRAME_MS  # after picture 15
WAVES = ((7.0, 23.0), (5.0, 41.0), (3.0, 11.0))  # grey values and pixels


def picture(position: float, ball: float = 10.0, noise: int = 0) -> np.ndarray:
    """A picture of 96x64 whose scenery is at `position`, with a ball that hides a part of it."""
    columns = np.arange(96) - position
    line = sum(high * np.sin(2 * np.pi * columns / long + long) for high, long in WAVES)
    grey = np.tile(120 + 2 * line, (64, 1))
    rows, places = np.mgrid[:64, :96]
    grey[(rows - 32) ** 2 + (places - ball) ** 2 < 64] = 200.0
    return grey + np.random.Generator(np.random.Philox(noise)).normal(scale=1.0, size=grey.shape)


def video(first_moved: int, pixels: float, balls: float = 0.0) -> tuple[np.ndarray, Pictures]:
    """Forty pictures and their times; the scenery moves from `first_moved` on, the ball always."""
    positions = [max(0, 1 + index - first_moved) * pixels for index in range(40)]
    pictures = [picture(at, 10 + balls * i, i) for i, at in enumerate(positions)]
    return np.arange(40) * FRAME_MS, np.stack(pictures)


@pytest.mark.parametrize("pixels", [-2.0, -0.6, 0.25, 1.0, 3.4])
def test_the_shift_is_found_between_pixels_and_in_spite_of_the_ball(pixels: float) -> None:
    assert shift_of(picture(0), picture(pixels, ball=14, noise=1)) == pytest.approx(pixels, abs=0.1)


@pytest.mark.parametrize(("pixels", "sign"), [(1.0, 1), (-1.0, -1), (0.5, 1)])
@pytest.mark.parametrize("first_moved", [18, 22, 30])
def test_the_first_picture_that_has_moved_ends_the_time(
    first_moved: int, pixels: float, sign: int
) -> None:
    draws, pictures = video(first_moved, pixels, balls=0.8)
    assert onset(draws, pictures, PRESS_MS, sign) == pytest.approx(
        first_moved * FRAME_MS - PRESS_MS
    )


def test_slow_scenery_is_seen_a_picture_later_and_never_sooner() -> None:
    draws, pictures = video(20, 0.2)
    assert onset(draws, pictures, PRESS_MS, 1) == pytest.approx(21 * FRAME_MS - PRESS_MS)


@pytest.mark.parametrize(("pixels", "sign"), [(0.0, 1), (0.0, -1), (1.0, -1)])
def test_a_still_scenery_or_the_other_direction_is_no_answer(pixels: float, sign: int) -> None:
    draws, pictures = video(20, pixels, balls=0.8)
    assert onset(draws, pictures, PRESS_MS, sign) is None


def test_one_picture_alone_that_jumps_is_no_answer() -> None:
    draws, pictures = video(40, 1.0)
    pictures[20] = picture(3.0)
    assert onset(draws, pictures, PRESS_MS, 1) is None


def test_a_scenery_that_drifts_and_stops_is_no_answer() -> None:
    draws, pictures = video(40, 1.0)
    pictures[20:] = [picture(0.6, noise=index) for index in range(20, 40)]
    assert onset(draws, pictures, PRESS_MS, 1) is None


def test_what_the_scenery_does_before_the_press_is_no_answer_after_it() -> None:
    """It trembles by half a pixel; only what is more than that counts."""
    draws, pictures = video(24, 2.0)
    pictures[:24] = [picture(0.5 * (index % 5 == 0), noise=index) for index in range(24)]
    delay = onset(draws, pictures, PRESS_MS, 1)
    assert delay == pytest.approx(24 * FRAME_MS - PRESS_MS)


def test_a_still_camera_jumps_by_less_than_the_threshold_and_a_moving_one_by_more() -> None:
    still, moving = (still_jumps(*video(first, 0.5), PRESS_MS) for first in (20, 0))
    assert len(still) == len(moving) == STILL == 8
    assert max(still) < MOVED_PX / 2 and min(moving) > 0.8
    assert still_jumps(*video(20, 1.0), 2 * FRAME_MS) == []
    assert [*jumps(np.array([0.0, 0, 0, 5, 5, 5, 5]))] == [5, 5, 0, 0]
