"""Sound to go beside a video: read in time order, a piece at a time, never whole.

with closing(sound.open()) as reader:
    first_second = reader.read(sound.rate)    # (channels, n) float32 in [-1, 1]
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import av
import numpy as np
import numpy.typing as npt
from av.audio.resampler import AudioResampler
from torch import Tensor

from ..errors import BadInput
from .video_source import VideoSource, clock_of, opened, seconds

Samples = npt.NDArray[np.float32]  # (channels, n), in [-1, 1]
LAYOUTS = {1: "mono", 2: "stereo"}
GAP_S = 0.05  # timestamps may be so far from what was counted; more is a gap or an overlap


class Sound(Protocol):
    """Something to hear: samples a second, 1 or 2 channels; the first sample is at 0 s."""

    @property
    def rate(self) -> int:
        """Samples per second."""

    @property
    def channels(self) -> int:
        """1 or 2."""

    def blocks(self) -> Iterator[Samples]:
        """All of it from the start, in pieces of any length."""


class SoundReader:
    """A place in a sound."""

    def __init__(self, sound: Sound) -> None:
        self._blocks = sound.blocks()
        self._rest: Samples = np.zeros((sound.channels, 0), np.float32)

    def read(self, count: int) -> Samples:
        """The next `count` samples (channels, n); fewer only at the end."""
        parts, held = [self._rest], self._rest.shape[1]
        while held < count and (block := next(self._blocks, None)) is not None:
            parts.append(block)
            held += block.shape[1]
        joined = np.concatenate(parts, 1)
        self._rest = joined[:, count:].copy()
        return joined[:, :count]


@dataclass(frozen=True, slots=True)
class SoundOfFile:
    """The first sound track of a video file, from second `start` of its pictures on."""

    source: VideoSource
    start: float = 0.0
    length: float | None = None
    rate: int = 0
    channels: int = 0

    @classmethod
    def of(
        cls, source: VideoSource, start: float = 0.0, length: float | None = None
    ) -> SoundOfFile | None:
        """None for a file without a sound track."""
        with opened(source) as container:
            if not container.streams.audio:
                return None
            track = container.streams.audio[0]
            return cls(source, start, length, track.rate, min(2, track.channels))

    def blocks(self) -> Iterator[Samples]:
        """Silence stands where the track has gaps or begins later than the pictures."""
        most = None if self.length is None else round(self.length * self.rate)
        with opened(self.source) as container:
            zero = _first_picture_s(container) + self.start
            track = container.streams.audio[0]
            if self.start > 0:
                container.seek(int((zero - 1) / clock_of(track)), stream=track)
            done = 0
            for at, block in _decoded(container, track, self.rate, self.channels):
                block = _placed(block, round((at - zero) * self.rate), done, self.rate)
                block = block if most is None else block[:, : most - done]
                done += block.shape[1]
                if block.shape[1]:
                    yield block
                if done == most:
                    return


@dataclass(frozen=True, slots=True)
class SoundInMemory:
    """The host's AUDIO: a waveform (1, channels, n) in [-1, 1]."""

    waveform: Tensor
    rate: int

    def __post_init__(self) -> None:
        if self.waveform.ndim != 3 or self.waveform.shape[0] != 1:
            raise BadInput(
                f"The audio has the shape {tuple(self.waveform.shape)}; give one track, as Load "
                "Audio does."
            )

    @property
    def channels(self) -> int:
        """1 or 2; of more, the first two are heard."""
        return min(2, self.waveform.shape[1])

    def blocks(self) -> Iterator[Samples]:
        """A second at a time."""
        for block in self.waveform[0, : self.channels].split(self.rate, dim=1):
            yield block.float().cpu().numpy()


def _first_picture_s(container: av.container.InputContainer) -> float:
    return float(seconds(container.streams.video[0])) if container.streams.video else 0.0


def _decoded(
    container: av.container.InputContainer, track: av.AudioStream, rate: int, channels: int
) -> Iterator[tuple[float, Samples]]:
    """(time in seconds, samples) as the file has them."""
    even = AudioResampler(format="fltp", layout=LAYOUTS[channels], rate=rate)
    for frame in container.decode(track):
        at = float(frame.pts * clock_of(track)) if frame.pts is not None else None
        for made in even.resample(frame):
            samples: Samples = made.to_ndarray().astype(np.float32, copy=False)
            if at is not None:
                yield at, samples
                at += samples.shape[1] / rate


def _placed(block: Samples, start: int, done: int, rate: int) -> Samples:
    """What follows `done` samples of a block that says it starts at `start`: silence fills a gap,
    what overlaps is cut off.
    """
    shift = start - done
    if done and abs(shift) <= GAP_S * rate:
        return block
    if shift >= 0:
        return np.pad(block, ((0, 0), (shift, 0)))
    return block[:, -shift:]
