"""Encodes pictures and sound of a live address once for all its viewers: H.264 and AAC.

Viewers join at a key frame, of which there is one a second, and one where a further run begins. B
frames and look-ahead would delay the picture.
"""

from __future__ import annotations

import io
import math
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction

import av
import numpy as np
from av.audio.stream import AudioStream
from av.video.frame import PictureType
from av.video.reformatter import ColorRange, Colorspace, VideoReformatter
from av.video.stream import VideoStream
from PIL import Image

from ..video.picture_stream import BT709, require_encoder
from ..video.sound.reading import Samples
from .take_sound import CHANNELS, SAMPLE_RATE

PACKET_SAMPLES = 1024  # of AAC
KEY_FRAME_S = 1.0
H264_OPTIONS = {
    "preset": "veryfast", "tune": "zerolatency", "bf": "0", "crf": "20", "sc_threshold": "0",
    "threads": "1", "forced-idr": "1",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class LivePacket:
    """An encoded picture or piece of sound; `at` and `ticks` are in ticks of `tick_s` seconds."""

    content: bytes
    at: int
    ticks: int  # how long it lasts
    tick_s: Fraction
    is_picture: bool
    is_key: bool


class LiveEncoder:
    """Encodes pictures of `width` x `height` pixels at `rate` pictures a second.

    `video` and `sound` describe the streams to muxers.
    """

    def __init__(self, width: int, height: int, rate: Fraction) -> None:
        for name in ("libx264", "aac"):
            require_encoder(name)
        self._size = (width, height)
        self._rate = rate
        self._pictures = self._samples = 0  # so far
        self._reformatter = VideoReformatter()
        self._holder = av.open(io.BytesIO(), "w", format="mp4")  # only describes the streams
        self.video = self._video_stream(width + width % 2, height + height % 2)
        self.sound = self._sound_stream()
        self._holder.start_encoding()
        self._shown = self._to_frame(Image.new("RGB", self._size))

    @property
    def awaited_sound(self) -> tuple[int, int]:
        """The samples that `encode` takes next: where they begin, and how many there are.

        They begin so many samples after the next picture does. Whole packets reach its end: a muxer
        would hold a picture back that is ahead of the sound.
        """
        begin, end = map(self._samples_before, (self._pictures, self._pictures + 1))
        packets = max(0, math.ceil((end - self._samples) / PACKET_SAMPLES))
        return self._samples - begin, packets * PACKET_SAMPLES

    def encode(
        self, jpeg: bytes | None, samples: Samples | None = None, *, is_cut: bool = False
    ) -> list[LivePacket]:
        """The packets for one picture more, and for the sound of its time.

        `is_cut` makes it a key frame, so that a later viewer sees nothing from before it.
        `jpeg` is scaled to the size; None shows the last picture again, at first a black one.
        `samples` (2, n) in [-1, 1] are those of `awaited_sound`; None is silence.
        """
        if samples is None:
            samples = np.zeros((CHANNELS, self.awaited_sound[1]), np.float32)
        if jpeg is not None:
            self._shown = self._to_frame(Image.open(io.BytesIO(jpeg)))
        self._shown.pict_type = PictureType.I if is_cut else PictureType.NONE
        self._shown.pts, self._shown.time_base = self._pictures, 1 / self._rate
        self._pictures += 1
        packets = [
            LivePacket(bytes(packet), packet.pts or 0, 1, 1 / self._rate, True, packet.is_keyframe)
            for packet in self.video.encode(self._shown)
        ]
        return [*packets, *self._encode_sound(samples)]

    def close(self) -> None:
        """Free the encoders' memory."""
        self._holder.close()

    def _samples_before(self, pictures: int) -> int:
        return round(pictures * SAMPLE_RATE / self._rate)

    def _encode_sound(self, samples: Samples) -> Iterator[LivePacket]:
        tick_s = Fraction(1, SAMPLE_RATE)
        for first in range(0, samples.shape[1], PACKET_SAMPLES):
            piece = np.ascontiguousarray(samples[:, first : first + PACKET_SAMPLES])
            frame = av.AudioFrame.from_ndarray(piece, "fltp", "stereo")
            frame.sample_rate, frame.pts, frame.time_base = SAMPLE_RATE, self._samples, tick_s
            self._samples += PACKET_SAMPLES
            for packet in self.sound.encode(frame):
                at = packet.pts or 0
                yield LivePacket(bytes(packet), at, PACKET_SAMPLES, tick_s, False, False)

    def _video_stream(self, width: int, height: int) -> VideoStream:
        stream = self._holder.add_stream("libx264", rate=self._rate, options=H264_OPTIONS)
        assert isinstance(stream, VideoStream)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        context = stream.codec_context
        context.gop_size = max(1, round(KEY_FRAME_S * self._rate))
        context.color_primaries = context.color_trc = context.colorspace = BT709
        context.color_range = ColorRange.MPEG
        return stream

    def _sound_stream(self) -> AudioStream:
        stream = self._holder.add_stream("aac", rate=SAMPLE_RATE)
        assert isinstance(stream, AudioStream)
        stream.codec_context.layout = "stereo"
        return stream

    def _to_frame(self, image: Image.Image) -> av.VideoFrame:
        """The picture as the encoder takes it: 4:2:0 colour needs even sides."""
        width, height = self._size
        image = image if image.size == self._size else image.resize(self._size)
        pixels = np.asarray(image.convert("RGB"))
        pixels = np.pad(pixels, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")
        return self._reformatter.reformat(
            frame, format="yuv420p",
            dst_colorspace=Colorspace.ITU709, dst_color_range=ColorRange.MPEG,
        )  # fmt: skip
