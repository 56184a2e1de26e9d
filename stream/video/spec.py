"""What to write: the container, the size and the rate of a video."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from types import MappingProxyType

from ...errors import BadInput
from .sound import Sound

NO_METADATA: Mapping[str, str] = MappingProxyType({})
FRAME_NAME = "frame_%06d.png"
MAX_SIDE = 16384  # the limit of h264 and FFV1


@dataclass(frozen=True, slots=True)
class FragmentedMP4:
    """h264, which plays everywhere. `crf` is 0 (best) to 51; 18 looks like the source."""

    crf: int = 18

    def __post_init__(self) -> None:
        if not 0 <= self.crf <= 51:
            raise BadInput(f"crf must be from 0 to 51; got {self.crf}.")


@dataclass(frozen=True, slots=True)
class LosslessMKV:
    """FFV1: every 8-bit value survives. About ten times the size of an MP4."""


@dataclass(frozen=True, slots=True)
class PNGFrames:
    """A folder of numbered PNG files."""


Container = FragmentedMP4 | LosslessMKV | PNGFrames


@dataclass(frozen=True, slots=True)
class VideoSpec:
    """Size in pixels, frames per second and container. MP4 rounds odd sizes up.

    `sound` is cut to the length of the pictures. A folder of PNG files has no sound. `metadata` are
    texts by key; in a folder of PNG files, the first picture has them.
    """

    width: int
    height: int
    fps: float | Fraction
    codec: Container = FragmentedMP4()
    sound: Sound | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not (0 < self.width <= MAX_SIDE and 0 < self.height <= MAX_SIDE):
            raise BadInput(
                f"The video's width and height must be from 1 to {MAX_SIDE}; "
                f"got {self.width} x {self.height}."
            )
        if not (math.isfinite(self.fps) and 0 < self.fps <= 1000):
            raise BadInput(f"The video's fps must be above 0 and at most 1000; got {self.fps}.")

    @property
    def rate(self) -> Fraction:
        """Frames per second as a fraction, as containers require."""
        return Fraction(self.fps).limit_denominator(1001)
