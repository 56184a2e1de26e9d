"""The pictures of a video file: one stream of packets in a container."""

from __future__ import annotations

import os
from collections.abc import Iterator
from fractions import Fraction

import av
import numpy as np
from av.container import OutputContainer
from av.video.reformatter import ColorRange, Colorspace, VideoReformatter
from av.video.stream import VideoStream

from ...errors import BadInput
from ...pip_command import pip_install
from ..lazy.frame_chunk import Pictures
from .codecs import Encoding

NO_MORE_KEY_FRAMES = 1 << 30  # effectively infinite: a piece has one, at its beginning
BT709 = 1  # ITU-T H.273: for primaries, transfer and matrix
ONE_THREAD = {"threads": 1} if int(av.__version__.split(".")[0]) >= 17 else {}
"""Colours are converted by the thread that asks. From PyAV 17 on it would wait for threads of
FFmpeg's, for which the cores that make the next chunk have no time."""
os.environ.setdefault("SVT_LOG", "1")  # the AV1 encoder otherwise prints 20 lines for every piece


class PictureEncoder:
    """Encodes pictures (n, H, W, 3) of 8 or 16 bits, with ITU-R BT.709 colours."""

    def __init__(self, encoding: Encoding) -> None:
        self._encoding = encoding
        self._yuv = encoding.has_even_sides
        self._reformatter = VideoReformatter()

    def add_stream(
        self, container: OutputContainer, fps: Fraction, pictures: Pictures
    ) -> VideoStream:
        """Add a stream for such pictures; the same for every piece, which share one header."""
        codec = self._encoding.codec
        stream = container.add_stream(codec.encoder, rate=fps, options=self._encoding.options)
        assert isinstance(stream, VideoStream)
        _, stream.height, stream.width, _ = self._pad(pictures[:1]).shape
        stream.pix_fmt = self._encoding.pixel_format
        if codec.tag:
            stream.codec_context.codec_tag = codec.tag
        if self._yuv:
            context = stream.codec_context
            context.gop_size = NO_MORE_KEY_FRAMES
            context.color_primaries = context.color_trc = context.colorspace = BT709
            context.color_range = ColorRange.MPEG
        return stream

    def frames(self, pictures: Pictures) -> Iterator[av.VideoFrame]:
        """The pictures as the codec takes them."""
        deep = pictures.dtype == np.uint16
        for picture in self._pad(pictures):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb48le" if deep else "rgb24")
            if self._yuv:
                yield _in_bt709(
                    self._reformatter.reformat(
                        frame,
                        format=self._encoding.pixel_format,
                        dst_colorspace=Colorspace.ITU709,
                        dst_color_range=ColorRange.MPEG,
                        **ONE_THREAD,
                    )
                )
            else:
                yield self._reformatter.reformat(
                    frame, format=self._encoding.pixel_format, **ONE_THREAD
                )

    def _pad(self, pictures: Pictures) -> Pictures:
        """Repeat the last row or column of odd sizes: 4:2:0 colour covers 2 x 2 pixels."""
        _, height, width, _ = pictures.shape
        if not (self._yuv and (height % 2 or width % 2)):
            return pictures
        return np.pad(pictures, ((0, 0), (0, height % 2), (0, width % 2), (0, 0)), mode="edge")


def _in_bt709(frame: av.VideoFrame) -> av.VideoFrame:
    """The frame with its primaries and transfer, which ProRes writes into every frame's header.

    PyAV up to 16 has no names for them; there, only the file's own header says them.
    """
    if hasattr(frame, "color_primaries"):
        frame.color_primaries = frame.color_trc = BT709
    return frame


def require_encoder(name: str) -> None:
    """Raise BadInput if this build of FFmpeg lacks the encoder `name`."""
    if name not in av.codecs_available:
        raise BadInput(
            f"The installed PyAV {av.__version__} has no {name} encoder; "
            "choose another format, or install the wheel from PyPI: "
            f"{pip_install('--force-reinstall av')}"
        )
