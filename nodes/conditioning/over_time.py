"""Numbers over time on the chunks of a shot: guidance strengths, the share of a second prompt."""

from __future__ import annotations

from collections.abc import Sequence

from ...model.config import FRAMES_PER_LATENT
from ..length import Length, latent_frame_at
from .timed_numbers import NumbersOverTime, TimedNumber

CHUNKS_BEYOND = 16
"""Chunks after a shot's end that still follow the numbers, for a later continue."""
DIGITS = 2


def values_by_chunk(numbers: Sequence[TimedNumber], length: Length) -> dict[int, float]:
    """The mean over each chunk by its first latent frame, where it changes, to two digits.

    They end `CHUNKS_BEYOND` chunks after the shot, or with the last number.
    """
    curve = NumbersOverTime(numbers)
    end = latent_frame_at(curve.end_s, length.fps) + length.chunk_frames
    if length.latent_frames is not None:
        end = min(end, length.latent_frames + CHUNKS_BEYOND * length.chunk_frames)
    values: dict[int, float] = {}
    latest: float | None = None
    for first, stop in _chunks(length, end):
        middles = [_middle_s(frame, length.fps) for frame in range(first, stop)]
        mean = round(sum(map(curve.at, middles)) / len(middles), DIGITS)
        if mean != latest:
            values[first] = latest = mean
    return values


def _chunks(length: Length, end: float) -> list[tuple[int, int]]:
    """First and stop of each chunk that begins before latent frame `end`."""
    size = length.chunk_frames
    starts = [0, *range(length.chunk_base % size or size, max(1, int(end)), size)]
    return list(zip(starts, [*starts[1:], starts[-1] + size], strict=True))


def _middle_s(frame: int, fps: float) -> float:
    """The middle of a latent frame in seconds; the first one is a single frame of video."""
    return 0.5 / fps if frame == 0 else (FRAMES_PER_LATENT * frame - 1) / fps
