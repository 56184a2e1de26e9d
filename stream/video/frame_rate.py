"""Another frame rate at the same speed: frames are repeated or left out, as by FFmpeg's `-r`."""

from __future__ import annotations

from fractions import Fraction
from math import ceil

from torch import Tensor


def at_rate(frames: Tensor, first: int, source: Fraction, target: Fraction) -> Tensor:
    """The frames (n, ...) as shown at `target` frames a second; `first` is the first one's number.

    Frame k of the result is the source's frame k source / target, rounded down, counted from the
    start of the video. So chunks give the same frames as the whole video.
    """
    if source == target:
        return frames
    begin, end = (ceil(number * target / source) for number in (first, first + len(frames)))
    return frames[[int(k * source / target) - first for k in range(begin, end)]]
