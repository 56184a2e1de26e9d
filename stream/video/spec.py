"""What to write: the container, the size and the rate of a video."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from types import MappingProxyType
from typing import Literal

from ...errors import BadInput
from .codecs import Codec, Encoding
from .frame_rate import exact_rate
from .sound.reading import Sound

NO_METADATA: Mapping[str, str] = MappingProxyType({})
FRAME_NAME = "frame_%06d.png"
MAX_SIDE = 16384  # the limit of h264 and FFV1
MOST_FPS = {"gif": 50, "webp": 90}
"""Frames a second of an animated picture. Browsers show those of 10 ms or less for 100 ms."""


@dataclass(frozen=True, slots=True)
class PNGFrames:
    """A folder of numbered PNG files."""


@dataclass(frozen=True, slots=True)
class AnimatedPicture:
    """A GIF or WebP that repeats for ever, complete only at its end."""

    kind: Literal["gif", "webp"]


VideoFormat = Encoding | AnimatedPicture | PNGFrames


@dataclass(frozen=True, slots=True)
class VideoSpec:
    """Size in pixels, frames per second and format. Most codecs round odd sizes up: `file_size`.

    `sound` is cut to the length of the pictures. Folders of PNG files and animated pictures have no
    sound. `metadata` are texts by key: in a folder of PNG files, the first picture has them; an
    animated picture has none.
    """

    width: int
    height: int
    fps: float | Fraction
    format: VideoFormat = Encoding()
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
        if isinstance(self.format, Encoding):
            _check_sides(self.format.codec, self.width, self.height)
        if isinstance(self.format, AnimatedPicture):
            _check_rate(self.format, self.rate)

    @property
    def bits(self) -> int:
        """Bits of a colour value in the file."""
        return self.format.bits if isinstance(self.format, Encoding) else 8

    @property
    def file_size(self) -> tuple[int, int]:
        """Width and height in the file, where a pixel's colour may cover 2 x 2 pixels."""
        size = self.width, self.height
        if not (isinstance(self.format, Encoding) and self.format.has_even_sides):
            return size
        return rounded_up(*size)

    @property
    def rate(self) -> Fraction:
        """Frames per second as a fraction, as containers require."""
        return exact_rate(self.fps)


def rounded_up(width: int, height: int) -> tuple[int, int]:
    """The next even sides."""
    return width + width % 2, height + height % 2


def _check_sides(codec: Codec, width: int, height: int) -> None:
    """Raise BadInput for a video that is too small for its codec; odd sides are rounded up."""
    if min(rounded_up(width, height)) < codec.min_side:
        raise BadInput(
            f"A video of {codec.name} has at least {codec.min_side} x {codec.min_side} pixels; got "
            f"{width} x {height}. Choose another format, or larger frames."
        )


def _check_rate(format: AnimatedPicture, rate: Fraction) -> None:
    """Raise BadInput for more frames a second than browsers show at that speed."""
    most = MOST_FPS[format.kind]
    if rate > most:
        raise BadInput(
            f"Browsers show a {format.kind} at no more than {most} frames per second; got "
            f"{float(rate):g}. Set fps to {most} or less, or choose another format."
        )
