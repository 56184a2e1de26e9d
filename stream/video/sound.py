"""Sound to go beside a video: read in time order, a piece at a time, never whole.

with closing(SoundReader(sound)) as reader:
    first_second = reader.read(sound.rate)    # (channels, n) float32 in [-1, 1]
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from dataclasses import dataclass
from typing import Protocol

import av
import numpy as np
import numpy.typing as npt
from av.audio.resampler import AudioResampler
from torch import Tensor

from ...errors import BadInput
from .source import VideoSource, clock_of, open_file, opened, refusing, seconds

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

    def blocks(self) -> Blocks:
        """All of it from the start, in pieces of any length."""


class Blocks(Iterator[Samples], Protocol):
    """Pieces of a sound, one after another; whoever reads them closes them."""

    def close(self) -> None:
        """Let go of what is open; closing twice is harmless."""


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

    def close(self) -> None:
        """Close what the sound is read from."""
        self._blocks.close()


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

    def blocks(self) -> Blocks:
        """Silence stands where the track has gaps or begins later than the pictures."""
        return _BlocksOfFile(self)


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

    def blocks(self) -> Generator[Samples]:
        """A second at a time."""
        for block in self.waveform[0, : self.channels].split(self.rate, dim=1):
            yield block.float().cpu().numpy()


def _first_picture_s(container: av.container.InputContainer) -> float:
    return float(seconds(container.streams.video[0])) if container.streams.video else 0.0


class _BlocksOfFile:
    """The blocks of a file's sound; it is open from the first one on until the last, or `close`."""

    def __init__(self, sound: SoundOfFile) -> None:
        self._sound, self._done = sound, 0
        self._most = None if sound.length is None else round(sound.length * sound.rate)
        self._track: _DecodedTrack | None = None
        self._ended = False

    def __iter__(self) -> _BlocksOfFile:
        return self

    def __next__(self) -> Samples:
        while not self._ended:
            if self._track is None:
                self._track = _DecodedTrack(self._sound)
            found = self._track.next()
            if found is None:
                break
            at, block = found
            block = _placed(block, round(at * self._sound.rate), self._done, self._sound.rate)
            block = block if self._most is None else block[:, : self._most - self._done]
            self._done += block.shape[1]
            self._ended = self._done == self._most
            if block.shape[1]:
                return block
        self.close()
        raise StopIteration

    def close(self) -> None:
        """Close the file; there is nothing more."""
        track, self._track, self._ended = self._track, None, True
        if track is not None:
            track.close()

    def __del__(self) -> None:
        self.close()


class _DecodedTrack:
    """An open file and the decoder of its sound, from a second before the sound's start on."""

    def __init__(self, sound: SoundOfFile) -> None:
        self._source = sound.source
        self._container = open_file(sound.source)
        with refusing(sound.source):
            self._zero = _first_picture_s(self._container) + sound.start
            track = self._container.streams.audio[0]
            self._clock = float(clock_of(track))
            if sound.start > 0:
                self._container.seek(int((self._zero - 1) / self._clock), stream=track)
            self._frames = self._container.decode(track)
        self._even = AudioResampler(format="fltp", layout=LAYOUTS[sound.channels], rate=sound.rate)
        self._rate = sound.rate
        self._waiting: list[tuple[float, Samples]] = []

    def next(self) -> tuple[float, Samples] | None:
        """(seconds from the sound's start, samples) as the file has them; None at the end."""
        while not self._waiting:
            with refusing(self._source):
                frame = next(self._frames, None)
                if frame is None:
                    return None
                made = [one.to_ndarray() for one in self._even.resample(frame)]
            if frame.pts is None:
                continue
            at = frame.pts * self._clock - self._zero
            for samples in made:
                self._waiting.append((at, samples.astype(np.float32, copy=False)))
                at += samples.shape[1] / self._rate
        return self._waiting.pop(0)

    def close(self) -> None:
        """Close it."""
        self._container.close()


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
