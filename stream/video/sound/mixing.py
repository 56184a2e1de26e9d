"""Brings sound of any form to mono or stereo, by FFmpeg's own weights for each speaker."""

from __future__ import annotations

from collections.abc import Generator, Iterable

import av
import numpy as np
from av.audio.resampler import AudioResampler

from .reading import LAYOUTS, Samples

CHANNELS = (*range(1, 9), 10, 12, 14, 16)
"""Numbers of channels for which FFmpeg knows an order of speakers, such as 6 for 5.1."""


class Mixer:
    """Brings frames to `channels` (1 or 2) and `rate`, whatever form each of them has."""

    def __init__(self, channels: int, rate: int) -> None:
        self._channels, self._rate = channels, rate
        self._resampler: AudioResampler | None = None
        self._form: tuple[str, str, int] | None = None  # of the sound that the resampler takes

    def mix(self, frame: av.AudioFrame) -> list[Samples]:
        """The samples of a frame; recordings change their form between programmes."""
        form = (frame.format.name, frame.layout.name, frame.sample_rate)
        mixes = frame.layout.nb_channels > self._channels  # only whole numbers are kept in range
        format, scale = ("s32p", 2.0**-31) if mixes else ("fltp", 1.0)
        if self._resampler is None or form != self._form:
            self._form = form
            self._resampler = AudioResampler(format, LAYOUTS[self._channels], self._rate)
        parts = [part.to_ndarray() for part in self._resampler.resample(frame)]
        return [part.astype(np.float32, copy=False) * np.float32(scale) for part in parts]


def mix_to_stereo(blocks: Iterable[Samples], rate: int) -> Generator[Samples]:
    """Stereo from blocks (c, n) of more channels; `c` is one of `CHANNELS`."""
    mixer = Mixer(2, rate)
    for block in blocks:
        in_turn = np.ascontiguousarray(block.T).reshape(1, -1)  # each sample of all channels
        frame = av.AudioFrame.from_ndarray(in_turn, "flt", f"{len(block)}c")
        frame.sample_rate = rate
        yield from mixer.mix(frame)
