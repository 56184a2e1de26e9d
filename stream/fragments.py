"""Chunks of frames as self-contained pieces of a video file, to be appended one after the other.

A file made this way is whole after every piece: it can be played while it grows, and whatever
stops the writer costs at most the piece being written. Each piece is muxed in memory as a file of
its own, then cut at the container's seams. Every piece begins with a key frame.

    MP4       ftyp moov | moof mdat | moof mdat | ...      h264, yuv420p, BT.709
    Matroska  EBML Segment Info Tracks | Cluster | ...     FFV1, bgr0, bit exact
"""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator
from fractions import Fraction

import av
import numpy as np
from av.container import OutputContainer
from av.video.reformatter import ColorRange, Colorspace, VideoReformatter
from av.video.stream import VideoStream

from ..errors import BadInput
from .frames import Pictures

NO_MORE_KEY_FRAMES = 1 << 30  # x264's word for it
BT709 = 1  # ITU-T H.273, for primaries, transfer and matrix alike
MATROSKA_CLUSTER = b"\x1f\x43\xb6\x75"


class MP4Fragments:
    """h264 at a constant quality `crf`. Odd sizes grow by one row or column, repeating the last."""

    def __init__(self, fps: Fraction, crf: int) -> None:
        self._fps = fps
        self._crf = crf
        self._to_yuv = VideoReformatter()
        self._frames = 0
        self._fragments = 0

    def encode(self, pictures: Pictures) -> bytes:
        """The bytes that continue the file by `pictures`."""
        file = io.BytesIO()
        flags = "frag_keyframe+empty_moov+default_base_moof+skip_trailer"
        number = str(self._fragments + 1)
        with av.open(
            file, "w", format="mp4", options={"movflags": flags, "fragment_index": number}
        ) as container:
            stream = self._add_stream(container, pictures)
            for place, picture in enumerate(_padded_to_even(pictures)):
                frame = self._to_yuv.reformat(
                    av.VideoFrame.from_ndarray(picture, format="rgb24"),
                    format="yuv420p",
                    dst_colorspace=Colorspace.ITU709,
                    dst_color_range=ColorRange.MPEG,
                )
                frame.pts = place
                container.mux(stream.encode(frame))
            container.mux(stream.encode())
            timescale = _known(stream.time_base)
        start_ticks = int(self._frames / self._fps / timescale)
        piece = b"".join(_cut_mp4(file.getbuffer(), start_ticks, with_header=not self._fragments))
        self._frames += len(pictures)
        self._fragments += 1
        return piece

    def _add_stream(self, container: OutputContainer, pictures: Pictures) -> VideoStream:
        # No B frames: they would give a piece negative times. One key frame, at its beginning; the
        # same number for all pieces, since the header of the first one stands for them.
        # No look-ahead: with it the same pictures do not always give the same bytes.
        options = {"crf": str(self._crf), "preset": "veryfast", "bf": "0", "sc_threshold": "0"}
        options |= {"x264-params": "mbtree=0:rc-lookahead=0"}
        stream = container.add_stream("libx264", rate=self._fps, options=options)
        _, height, width, _ = pictures.shape
        stream.width, stream.height = width + width % 2, height + height % 2
        stream.pix_fmt = "yuv420p"
        codec = stream.codec_context
        codec.gop_size = NO_MORE_KEY_FRAMES
        codec.color_primaries = codec.color_trc = codec.colorspace = BT709
        codec.color_range = ColorRange.MPEG
        return stream


class MatroskaClusters:
    """FFV1, lossless and checksummed by slice."""

    def __init__(self, fps: Fraction) -> None:
        self._fps = fps
        self._to_bgr = VideoReformatter()
        self._frames = 0

    def encode(self, pictures: Pictures) -> bytes:
        """The bytes that continue the file by `pictures`."""
        file = io.BytesIO()
        # `live` writes a segment of unknown extent, the one kind that may grow.
        with av.open(file, "w", format="matroska", options={"live": "1"}) as container:
            checked = {"level": "3", "slicecrc": "1"}
            stream = container.add_stream("ffv1", rate=self._fps, options=checked)
            _, stream.height, stream.width, _ = pictures.shape
            stream.pix_fmt = "bgr0"
            for place, picture in enumerate(pictures, self._frames):
                frame = self._to_bgr.reformat(
                    av.VideoFrame.from_ndarray(picture, format="rgb24"), format="bgr0"
                )
                frame.pts = place
                container.mux(stream.encode(frame))
            container.mux(stream.encode())
        piece = file.getvalue()
        if self._frames:
            piece = piece[piece.index(MATROSKA_CLUSTER) :]
        self._frames += len(pictures)
        return piece


def require_encoder(name: str) -> None:
    """BadInput where this build of FFmpeg lacks the encoder `name`."""
    if name not in av.codecs_available:
        raise BadInput(
            f"The installed PyAV {av.__version__} has no {name} encoder; "
            f"install the wheel from PyPI (pip install --force-reinstall av) or save as PNG frames."
        )


def _padded_to_even(pictures: Pictures) -> Pictures:
    """4:2:0 colour covers two by two pixels."""
    _, height, width, _ = pictures.shape
    return np.pad(pictures, ((0, 0), (0, height % 2), (0, width % 2), (0, 0)), mode="edge")


def _cut_mp4(file: memoryview, start_ticks: int, *, with_header: bool) -> Iterator[bytes]:
    """The boxes of a one-fragment file that continue another file at `start_ticks` of its clock."""
    for kind, box in _boxes(file):
        if kind == b"moof":
            yield _moved_to(box, start_ticks)
        elif kind == b"mdat" or with_header:
            yield box


def _boxes(file: memoryview) -> Iterator[tuple[bytes, bytes]]:
    """Top-level boxes of an MP4 file (ISO/IEC 14496-12, 4.2): 32-bit size, four letters, body."""
    start = 0
    while start < len(file):
        extent, kind = struct.unpack_from(">I4s", file, start)
        if extent == 1:  # a 64-bit size follows
            (extent,) = struct.unpack_from(">Q", file, start + 8)
        yield kind, bytes(file[start : start + extent])
        start += extent


def _moved_to(moof: bytes, start_ticks: int) -> bytes:
    """Set the fragment's decode time: box `tfdt` (8.8.12) of version 1: letters, flags, 64 bits."""
    moved = bytearray(moof)
    struct.pack_into(">Q", moved, moved.index(b"tfdt") + 8, start_ticks)
    return bytes(moved)


def _known(time_base: Fraction | None) -> Fraction:
    assert time_base is not None, "a stream that was muxed has a clock"
    return time_base
