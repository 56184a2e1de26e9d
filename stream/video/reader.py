"""A place in a video clip: its file is open from the first reading on until `close`.

A reader is an object and no generator, so that it can be closed by whoever owns it, and no file is
open inside a function that waits.
"""

from __future__ import annotations

from fractions import Fraction

import av
import numpy as np
import torch
from av.container import InputContainer
from av.video.reformatter import Colorspace, Interpolation, VideoReformatter
from torch import Tensor

from ...errors import BadInput
from ..lazy.frame_chunk import Pictures
from .source import (
    ROUNDING_S,
    VideoClip,
    clock_of,
    name_of,
    open_file,
    pictures_of,
    refusing,
    seconds,
)

HD_ROWS = 720  # without a note, pictures of so many rows are BT.709, smaller ones BT.601
BT709 = 1


class VideoReader:
    """The frames of a clip from number `first` on, each the newest picture there is at its time;
    where the file ends early, its last one.
    """

    def __init__(self, clip: VideoClip, first: int = 0) -> None:
        self._clip, self._number = clip, first
        self._file: _DecodedFile | None = None
        self._resized = _Resized(clip.width, clip.height)
        self._coming: av.VideoFrame | None = None  # the first picture that is not shown yet
        self._newest: av.VideoFrame | None = None
        self._shown: Pictures | None = None  # the newest one at the clip's size, once it is wanted

    def read(self, count: int) -> Tensor | None:
        """The next `count` frames (n, 3, H, W) in [0, 1], fewer at the end; None after it."""
        count = min(count, self._clip.frame_total - self._number)
        if count <= 0:
            self.close()
            return None
        pictures = np.stack([self._next_picture() for _ in range(count)])
        if self._number == self._clip.frame_total:
            self.close()
        return torch.from_numpy(pictures).permute(0, 3, 1, 2).float() / 255

    def close(self) -> None:
        """Close the file; closing twice is harmless, and reading on opens it again."""
        file, self._file = self._file, None
        self._coming = self._newest = self._shown = None
        if file is not None:
            file.close()

    def __del__(self) -> None:
        self.close()

    def _next_picture(self) -> Pictures:
        if self._file is None:
            self._file = _DecodedFile(self._clip, self._clip.time(self._number) - ROUNDING_S)
            self._coming = self._file.next()
        file, time = self._file, self._clip.time(self._number)
        while self._coming is not None and (self._newest is None or file.at(self._coming) <= time):
            self._newest, self._shown = self._coming, None
            self._coming = file.next()
        if self._newest is None:
            raise BadInput(
                f"No picture of the video {name_of(self._clip.source)} can be decoded; choose a "
                "file that plays."
            )
        if self._shown is None:
            self._shown = self._resized.of(self._newest)
        self._number += 1
        return self._shown


class _DecodedFile:
    """An open file and its decoder, from the last place before second `start` that it can begin
    at.
    """

    def __init__(self, clip: VideoClip, start: Fraction) -> None:
        self._source = clip.source
        self._container: InputContainer = open_file(clip.source)
        with refusing(clip.source):
            stream = pictures_of(self._container)
            self._zero = Fraction(seconds(stream))
            if start > 0:
                place = int((start + self._zero) / clock_of(stream))
                self._container.seek(place, stream=stream)
            self._frames = self._container.decode(stream)

    def next(self) -> av.VideoFrame | None:
        """The next picture, None at the end."""
        with refusing(self._source):
            return next(self._frames, None)

    def at(self, frame: av.VideoFrame) -> Fraction:
        """Seconds from the video's first picture."""
        return (frame.pts or 0) * Fraction(frame.time_base or 1) - self._zero

    def close(self) -> None:
        """Close it."""
        self._container.close()


class _Resized:
    """Pictures upright at one size: scaled to cover it, and cut evenly where they are wider."""

    def __init__(self, width: int, height: int) -> None:
        self._width, self._height = width, height
        self._reformatter = VideoReformatter()

    def of(self, frame: av.VideoFrame) -> Pictures:
        """8-bit RGB (H, W, 3)."""
        turns = round(getattr(frame, "rotation", 0) / 90) % 4
        width, height = (self._height, self._width) if turns % 2 else (self._width, self._height)
        scale = max(width / frame.width, height / frame.height)
        covers = (max(width, round(frame.width * scale)), max(height, round(frame.height * scale)))
        noted = frame.colorspace == BT709 or (frame.colorspace == 2 and frame.height >= HD_ROWS)
        shrinks = Interpolation.AREA if scale < 1 else Interpolation.BICUBIC
        picture = self._reformatter.reformat(
            frame, *covers, "rgb24", interpolation=shrinks,
            src_colorspace=Colorspace.ITU709 if noted else Colorspace.ITU601,
        ).to_ndarray()  # fmt: skip
        top, left = (covers[1] - height) // 2, (covers[0] - width) // 2
        return np.rot90(picture[top : top + height, left : left + width], turns)
