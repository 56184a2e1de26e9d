"""Reads the frames of a video clip. The file is open from the first read to `close`.

A reader is an object and not a generator, so that its owner can close it and no file is open inside
a suspended function.
"""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction

import av
import numpy as np
import torch
from av.container import InputContainer
from av.video.reformatter import ColorRange, Interpolation, VideoReformatter
from torch import Tensor

from ....errors import BadInput
from ...lazy.frame_chunk import Pictures
from ..display.picture_times import PictureTimes, delay_ticks
from ..display.tone import is_hdr, to_sdr
from ..display.upright import StreamHeader, Upright
from .source import (
    ROUNDING_S,
    VideoClip,
    decoded,
    open_file,
    source_name,
    start_s,
    tick_s,
    translate_errors,
    usual_rate,
    video_stream,
)

EARLIER_S = Fraction(1)  # how much earlier the first further search for a picture begins
HD_ROWS = 720  # untagged pictures with at least so many rows are BT.709, smaller ones BT.601
UNTAGGED = 2  # as ITU-T H.273 numbers the matrices of brightness and colour differences
BT709, FCC, BT601, SMPTE240M, BT2020 = 1, 4, 5, 7, 9  # as FFmpeg's scaler numbers them
SCALER_MATRICES = {1: BT709, 4: FCC, 7: SMPTE240M, 9: BT2020, 10: BT2020}  # others are BT.601


class VideoReader:
    """The frames of a clip from number `first` on.

    Each frame is the newest picture at its time. If the file ends early, the last picture repeats.
    """

    def __init__(self, clip: VideoClip, first: int = 0) -> None:
        self._clip, self._number = clip, first
        self._file: _DecodedFile | None = None
        self._resizer = Resizer(clip.width, clip.height)
        self._upcoming: av.VideoFrame | None = None  # the first picture not shown yet
        self._newest: av.VideoFrame | None = None
        self._shown: Pictures | None = None  # the newest one, resized

    def read(self, count: int) -> Tensor | None:
        """The next `count` frames (n, 3, H, W) in [0, 1]; fewer at the end, None after it."""
        count = min(count, self._clip.frame_total - self._number)
        if count <= 0:
            self.close()
            return None
        pictures = np.stack([self._next_picture() for _ in range(count)])
        if self._number == self._clip.frame_total:
            self.close()
        return torch.from_numpy(pictures).permute(0, 3, 1, 2).float() / 255

    def close(self) -> None:
        """Close the file; closing twice is harmless, and another read opens the file again."""
        file, self._file = self._file, None
        self._upcoming = self._newest = self._shown = None
        if file is not None:
            file.close()

    def __del__(self) -> None:
        self.close()

    def _next_picture(self) -> Pictures:
        if self._file is None:
            self._file = _DecodedFile(self._clip, self._clip.time(self._number) - ROUNDING_S)
            self._upcoming = self._file.next()
        file, time = self._file, self._clip.time(self._number)
        while self._upcoming is not None and (
            self._newest is None or file.at(self._upcoming) <= time
        ):
            self._newest, self._shown = self._upcoming, None
            self._upcoming = file.next()
        if self._newest is None:
            raise BadInput(
                f"No picture of the video {source_name(self._clip.source)} can be decoded; choose "
                "a file that plays."
            )
        if self._shown is None:
            self._shown = self._resizer.resize(self._newest, file.upright)
        self._number += 1
        return self._shown


class _DecodedFile:
    """An open file and its decoder, from a picture at second `start` or before on."""

    def __init__(self, clip: VideoClip, start: Fraction) -> None:
        self._source = clip.source
        self._container: InputContainer = open_file(clip.source)
        with translate_errors(clip.source):
            self._stream = video_stream(self._container)
            self._zero = Fraction(start_s(self._stream))
            self._delay = delay_ticks(self._container, self._stream)
            self._frames: Iterator[av.VideoFrame] = iter(())
            self._first = self._begin(start)
        header = StreamHeader.of(self._stream)
        self.upright = Upright(header=header)
        if self._first is not None:
            self.upright = Upright.of(self._first, header)

    def next(self) -> av.VideoFrame | None:
        """The next picture; None at the end."""
        first, self._first = self._first, None
        if first is not None:
            return first
        with translate_errors(self._source):
            return next(self._frames, None)

    def at(self, frame: av.VideoFrame) -> Fraction:
        """The time of a picture in seconds from the first one."""
        return (frame.pts or 0) * Fraction(frame.time_base or 1) - self._zero

    def close(self) -> None:
        self._container.close()

    def _begin(self, start: Fraction) -> av.VideoFrame | None:
        """The picture at second `start`, or one before it; None in a file without any.

        MPEG and AVI files are entered behind the second that was sought, or between key frames. And
        an open group's first pictures cannot be decoded. The search then begins earlier.
        """
        early, step = start, EARLIER_S
        while early > 0:
            place = int((early + self._zero) / tick_s(self._stream))
            self._container.seek(place, stream=self._stream)
            self._frames = self._decoded()
            first = self._first_timed()
            if first is not None and self.at(first) <= start + ROUNDING_S:
                return first
            early, step = early - step, 2 * step
        if start > 0:
            self._container.close()
            self._container = open_file(self._source)
            self._stream = video_stream(self._container)
        self._frames = self._decoded()
        return self._first_timed()

    def _first_timed(self) -> av.VideoFrame | None:
        """The next picture that has a time: a place in MPEG may lie between two of these."""
        return next((frame for frame in self._frames if frame.pts is not None), None)

    def _decoded(self) -> Iterator[av.VideoFrame]:
        """The pictures from the place of the file on, with their times."""
        usual = 1 / usual_rate(self._stream)
        ticks = round(usual / tick_s(self._stream))
        times = PictureTimes(self._container.format.name, self._delay, ticks)
        return times.stamp(decoded(self._container, self._stream, self._source))


class Resizer:
    """Turns pictures upright, scales them to cover one size, and crops the rest on both sides."""

    def __init__(self, width: int, height: int) -> None:
        self._width, self._height = width, height
        self._reformatter = VideoReformatter()

    def resize(self, frame: av.VideoFrame, upright: Upright) -> Pictures:
        """The picture as 8-bit SDR in RGB (H, W, 3)."""
        header, width, height = upright.header, self._width, self._height
        aspect = float(header.pixel_aspect)
        if upright.turns % 2:
            width, height = height, width
        scale = max(width / (frame.width * aspect), height / frame.height)
        covering = (
            max(width, round(frame.width * aspect * scale)),
            max(height, round(frame.height * scale)),
        )
        filter = Interpolation.AREA if scale < 1 else Interpolation.BICUBIC
        colours = _colours(frame, is_hdr(header.transfer))
        scaled = self._reformatter.reformat(
            frame, *covering, "rgb48le" if is_hdr(header.transfer) else "rgb24",
            interpolation=filter, **colours,
        )  # fmt: skip
        top, left = (covering[1] - height) // 2, (covering[0] - width) // 2
        codes = np.asarray(scaled.to_ndarray())[top : top + height, left : left + width]
        if is_hdr(header.transfer):
            return upright.apply(to_sdr(codes.astype(np.uint16, copy=False), header.transfer))
        return upright.apply(codes.astype(np.uint8, copy=False))


def _colours(frame: av.VideoFrame, hdr: bool) -> dict[str, int]:
    """How brightness and colour differences were made of red, green and blue, for the scaler."""
    if frame.format.is_rgb or len(frame.format.components) < 3:
        return {}
    matrix = SCALER_MATRICES.get(frame.colorspace, BT601)
    if frame.colorspace == UNTAGGED and (hdr or frame.height >= HD_ROWS):
        matrix = BT2020 if hdr else BT709
    # RGB has no matrix, but PyAV before 18 ignores the source's if the target's is the same.
    other = BT709 if matrix == BT601 else BT601
    ranges = {"src_color_range": frame.color_range, "dst_color_range": ColorRange.JPEG}
    return {"src_colorspace": matrix, "dst_colorspace": other, **ranges}
