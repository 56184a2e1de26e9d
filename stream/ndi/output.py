"""Shows a live address as an NDI source, which OBS, vMix, Resolume or TouchDesigner can take.

NDI has its own codec, so pictures and sound are decoded here. The live address comes at the pace of
the video, so nothing waits here.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from typing import Any

import av
import numpy as np
from av.audio.resampler import AudioResampler
from av.container import InputContainer

from ..video.display.upright import Upright
from ..video.reading.reader import Resizer
from .library import load

SOUND_HZ, CHANNELS, BLOCK = 48_000, 2, 1024  # samples that are sent at once
OPAQUE = 255


class NdiOutput:
    """An NDI source while it is open; `name` is how it is called on this network."""

    def __init__(self, sender: Any, size: tuple[int, int]) -> None:
        self.name: str = sender.source.name
        self._sender, self._resizer = sender, Resizer(*size)
        self._pixels = np.full((size[1], size[0], 4), OPAQUE, np.uint8)
        self._resampler = AudioResampler("fltp", "stereo", SOUND_HZ, BLOCK)

    def send(self, frame: av.VideoFrame | av.AudioFrame) -> None:
        """Send a picture, or some sound."""
        if isinstance(frame, av.VideoFrame):
            self._pixels[..., :3] = self._resizer.resize(frame, Upright())
            self._sender.write_video(self._pixels.reshape(-1))
            return
        for block in self._resampler.resample(frame):
            self._sender.write_audio(np.ascontiguousarray(block.to_ndarray(), np.float32))


@contextmanager
def open_output(name: str, source: InputContainer) -> Iterator[NdiOutput]:
    """Show pictures of the size and rate of `source` as the NDI source `name`."""
    stream = source.streams.video[0]
    size, rate = (stream.width, stream.height), Fraction(stream.average_rate or 25)
    video = load("video_frame").VideoSendFrame()
    video.set_resolution(*size)
    video.set_frame_rate(rate)
    video.set_fourcc(load("wrapper.ndi_structs").FourCC.RGBX)
    audio = load("audio_frame").AudioSendFrame()
    audio.sample_rate, audio.num_channels = SOUND_HZ, CHANNELS
    audio.set_max_num_samples(BLOCK)
    sender = load("sender").Sender(name, clock_video=False, clock_audio=False)
    sender.set_video_frame(video)
    sender.set_audio_frame(audio)
    with sender:
        yield NdiOutput(sender, size)
