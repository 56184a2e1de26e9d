"""The sound of a run's pictures, read picture by picture for its live address."""

from __future__ import annotations

import logging
from fractions import Fraction

import av
import numpy as np

from ...errors import LongtakeError
from ..video.sound.reading import LAYOUTS, Samples, Sound, SoundReader

logger = logging.getLogger("longtake")

SAMPLE_RATE = 48000
CHANNELS = 2
READ_S = 0.25  # how much is read of the sound at a time
TOLERANCE = SAMPLE_RATE // 1000  # samples by which a picture may be off before the sound moves


class TakeSound:
    """Stereo sound at `SAMPLE_RATE`, at the place of any picture; silence after its end.

    Reading in order is cheap. A jump, forward or back, opens the sound anew at its place. If the
    file fails, a warning says so once, and silence follows.
    """

    def __init__(self, sound: Sound, rate: Fraction) -> None:
        """`rate` is the number of pictures a second."""
        self._sound, self._rate = sound, rate
        self._resampled: _Resampled | None = None
        self._next = 0  # the sample that comes next
        self._failed = False

    def read(self, picture: int, count: int, ahead: int = 0) -> Samples:
        """`count` samples (2, count) in [-1, 1], from `ahead` after the picture of that number."""
        at = round(picture * SAMPLE_RATE / self._rate) + ahead
        samples = np.zeros((CHANNELS, 0), np.float32)
        if not self._failed:
            try:
                samples = self._read(at, count)
            except LongtakeError as error:
                self._failed = True
                logger.warning("The live sound has failed; silence follows. %s", error)
        return np.pad(samples, ((0, 0), (0, count - samples.shape[1])))

    def close(self) -> None:
        """Close the file of the sound."""
        resampled, self._resampled = self._resampled, None
        if resampled is not None:
            resampled.close()

    def _read(self, at: int, count: int) -> Samples:
        if self._resampled is None or abs(at - self._next) > TOLERANCE:
            self.close()
            self._resampled = _Resampled(self._sound.later(at / SAMPLE_RATE))
            self._next = at
        self._next += count
        return self._resampled.read(count)


class _Resampled:
    """A sound as stereo at `SAMPLE_RATE`, read in order."""

    def __init__(self, sound: Sound) -> None:
        self._sound, self._reader = sound, SoundReader(sound)
        self._resampler = av.AudioResampler(format="fltp", layout="stereo", rate=SAMPLE_RATE)
        self._queue = av.AudioFifo()
        self._ended = False

    def read(self, count: int) -> Samples:
        """The next `count` samples (2, n); fewer only at the end."""
        while self._queue.samples < count and not self._ended:
            self._fill()
        if not count or not self._queue.samples:  # FFmpeg would read all where `count` is 0
            return np.zeros((CHANNELS, 0), np.float32)
        frame = self._queue.read(count, partial=True)
        assert frame is not None
        return frame.to_ndarray().astype(np.float32, copy=False)

    def close(self) -> None:
        self._reader.close()

    def _fill(self) -> None:
        samples = self._reader.read(max(1, round(READ_S * self._sound.rate)))
        self._ended = not samples.shape[1]
        frame = None
        if not self._ended:
            layout = LAYOUTS[self._sound.channels]
            frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(samples), "fltp", layout)
            frame.sample_rate = self._sound.rate
        for resampled in self._resampler.resample(frame):
            resampled.pts = None  # counted by the queue
            self._queue.write(resampled)
