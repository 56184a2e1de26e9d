"""Frame rates as fractions, and another rate at the same speed.

Frames are repeated or left out, as by FFmpeg's `-r`.
"""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from math import ceil

from torch import Tensor

TELEVISION = tuple(Fraction(whole * 1000, 1001) for whole in (24, 30, 48, 60, 120))
"""The rates of NTSC, which people write as 23.98 and 29.97."""
FEWEST_AT_ONCE = 16  # frames
WRITTEN = Fraction(1, 200)  # frames a second: how far a rate with two decimals is from its own


def exact_rate(fps: float | Fraction) -> Fraction:
    """Frames a second as a fraction; a rate of NTSC where two decimals of it were written."""
    near = (rate for rate in TELEVISION if is_same_rate(fps, rate))
    return next(near, Fraction(fps).limit_denominator(1001))


def is_same_rate(one: float | Fraction, other: float | Fraction) -> bool:
    """Whether two rates are equal to two decimals."""
    return abs(Fraction(one) - Fraction(other)) < WRITTEN


def at_rate(
    frames: Tensor, first: int, source: Fraction, target: Fraction
) -> Iterator[tuple[Tensor, bool]]:
    """The frames (n, ...) as shown at `target` frames a second; `first` is the first one's number.

    Frame k of the result is the source's frame k source / target, rounded down, counted from the
    start of the video. So chunks give the same frames as the whole video.

    They come in parts, each with whether it is the last: a part has as many frames as `frames`, or
    a few. So memory does not grow with the rate: of a slide show, a picture is shown for seconds.
    """
    if source == target:
        yield frames, True
        return
    begin, end = (ceil(number * target / source) for number in (first, first + len(frames)))
    at_once = max(len(frames), FEWEST_AT_ONCE)
    for start in range(begin, end, at_once):
        stop = min(start + at_once, end)
        yield frames[[int(k * source / target) - first for k in range(start, stop)]], stop == end
