"""When the scenery begins to move sideways, from the grey pixels of the pictures on a canvas.

The shift against a still picture is the one at which most pixels agree. Pixels that disagree by
much, such as those of the ball, count as disagreeing and no more (Geman and McClure 1985). Only the
rows with hills and trees are read: the sun does not move with the camera.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Pictures = NDArray[np.float64]
"""Grey values from 0 to 255, (pictures, rows, columns)."""

Floats = NDArray[np.float64]

BAND = (0.34, 0.72)  # of the height
MAX_SHIFT = 8  # pixels
STEP = 0.25  # of the search, in pixels; a parabola finds the place between
TOLERANCE = 6.0  # grey values
BASE = 3  # pictures before, whose median shift is where the scenery stood
STILL = 8  # pictures before a press, by whose jumps the threshold is set
MOVED_PX = 0.3  # the threshold, at least
MARGIN = 1.5  # of the threshold, over the largest jump of a still camera
CONFIRMED_BY = 3  # pictures that must all be beyond the threshold
GROWN_PX, GROWN_BY = 1.0, 8  # so far it must have moved, after so many pictures at most
LIMIT_MS = 1500.0  # after a press


def shift_of(reference: Floats, picture: Floats) -> float:
    """Return by how many pixels the scenery of `picture` is to the right of `reference`'s."""
    rows = slice(*(round(share * len(reference)) for share in BAND))
    columns = np.arange(MAX_SHIFT, reference.shape[1] - MAX_SHIFT)
    still, moved = reference[rows, MAX_SHIFT:-MAX_SHIFT], picture[rows]
    shifts = np.arange(-MAX_SHIFT, MAX_SHIFT, STEP)
    whole = np.floor(shifts).astype(int)
    part = (shifts - whole)[:, None, None]
    left, right = (np.stack([moved[:, columns + each] for each in whole + more]) for more in (0, 1))
    squares = ((1 - part) * left + part * right - still) ** 2
    errors = (squares / (squares + TOLERANCE**2)).sum(axis=(1, 2))
    best = int(errors.argmin())
    return float(shifts[best] + STEP * _vertex(errors, best))


def _vertex(errors: Floats, best: int) -> float:
    """Return where, from -0.5 to 0.5 steps beside `best`, a parabola is lowest."""
    if not 0 < best < len(errors) - 1:
        return 0.0
    before, here, after = errors[best - 1 : best + 2]
    bend = before - 2 * here + after
    return float((before - after) / (2 * bend)) if bend > 0 else 0.0


def jumps(shifts: Floats) -> Floats:
    """Return each shift from the fourth on, minus the median of the three before."""
    bases = np.median(np.lib.stride_tricks.sliding_window_view(shifts, BASE), axis=1)
    difference: Floats = shifts[BASE:] - bases[:-1]
    return difference


def still_jumps(draws: Floats, pictures: Pictures, at: float) -> list[float]:
    """Return by how much the scenery jumps in the last pictures before a press, in pixels.

    Empty if there are too few pictures.
    """
    last = int(np.searchsorted(draws, at)) - 1
    first = last - STILL - BASE + 1
    if first < 0:
        return []
    shifts = np.array([shift_of(pictures[last], each) for each in pictures[first : last + 1]])
    return [float(each) for each in np.abs(jumps(shifts))]


def onset(draws: Floats, pictures: Pictures, at: float, sign: int) -> float | None:
    """Return the milliseconds from a press at `at` to the first picture that has moved.

    `draws` are the times of the pictures in milliseconds. `sign` is 1 if the scenery moves to the
    right. A picture has moved if it, and those after it, are farther from the pictures before than
    a still camera ever was, and if the scenery then goes on. None if nothing has moved within
    `LIMIT_MS`. Where the scenery moves slowly, the result is late by a picture or two.
    """
    last = int(np.searchsorted(draws, at)) - 1
    first = last - BASE + 1
    still = still_jumps(draws, pictures, at)
    if not still:
        return None
    threshold = max(MOVED_PX, MARGIN * max(still))
    stop = int(np.searchsorted(draws, at + LIMIT_MS))
    moved = pictures[first : stop + GROWN_BY]
    shifts = sign * np.array([shift_of(pictures[last], each) for each in moved])
    for index in range(BASE, stop - first):
        if abs(shifts[index - 1]) > MAX_SHIFT - 1:
            return None  # it has moved elsewhere, and the two pictures share too little
        beyond = shifts[index : index + GROWN_BY] - np.median(shifts[index - BASE : index])
        if np.all(beyond[:CONFIRMED_BY] >= threshold) and beyond.max() >= GROWN_PX:
            return float(draws[first + index] - at)
    return None
