"""How the pictures of a file are shown: turned, mirrored, in their shape, and HDR as SDR."""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import av
import numpy as np
from av.video.stream import VideoStream

from ...lazy.frame_chunk import Pictures
from .tone import is_hdr

SQUARE = Fraction(1)
WIDEST_PIXEL = 16  # times its height, or its height times its width; more is a damaged header
_MATRIX = "DISPLAYMATRIX"


@dataclass(frozen=True, slots=True)
class StreamHeader:
    """What a stream's header says of all its pictures.

    `pixel_aspect` is the width of a pixel as it lies in the file, divided by its height; `transfer`
    is that of HDR pictures, as ITU-T H.273 numbers them, and 0 of all others.
    """

    pixel_aspect: Fraction = SQUARE
    transfer: int = 0

    @classmethod
    def of(cls, stream: VideoStream) -> StreamHeader:
        """Read the header; pixels are square where it says nothing that can be."""
        aspect, transfer = Fraction(stream.sample_aspect_ratio or 1), stream.codec_context.color_trc
        possible = Fraction(1, WIDEST_PIXEL) <= aspect <= WIDEST_PIXEL
        return cls(aspect if possible else SQUARE, transfer if is_hdr(transfer) else 0)


PLAIN = StreamHeader()


@dataclass(frozen=True, slots=True)
class Upright:
    """What makes a decoded picture upright: first a mirror, then quarter turns to the left."""

    turns: int = 0
    mirrored: bool = False
    header: StreamHeader = PLAIN

    @classmethod
    def of(cls, frame: av.VideoFrame, header: StreamHeader = PLAIN) -> Upright:
        """What a picture's own display matrix says, beside the file's header.

        The picture then stays in memory until Python collects its garbage: ask one of each file.
        """
        known: Any = frame.side_data  # PyAV's types know motion vectors alone
        matrix = known.get(_MATRIX)
        if matrix is None:
            return cls(header=header)
        right_x, right_y, _, down_x, down_y, *_ = struct.unpack("=9i", bytes(matrix))
        mirrored = right_x * down_y < right_y * down_x
        if mirrored:
            right_x, right_y = -right_x, -right_y
        degrees = math.degrees(math.atan2(right_y, right_x))
        return cls(round(-degrees / 90) % 4, mirrored, header)

    @classmethod
    def by_rotation(cls, frame: av.VideoFrame, header: StreamHeader) -> Upright:
        """The quarter turns of a picture that comes alone; for any number of pictures."""
        return cls(round(frame.rotation / 90) % 4, header=header)

    def size(self, width: int, height: int) -> tuple[int, int]:
        """Width and height, as shown, of a picture of `width` x `height` pixels in the file."""
        shown = max(1, round(width * self.header.pixel_aspect))
        return (height, shown) if self.turns % 2 else (shown, height)

    def apply(self, picture: Pictures) -> Pictures:
        """Mirror and turn a picture (H, W, c)."""
        return np.rot90(picture[:, ::-1] if self.mirrored else picture, self.turns)
