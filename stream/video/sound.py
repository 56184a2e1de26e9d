"""The sound of a video: read in time order, one piece at a time.

with closing(SoundReader(sound)) as reader:
    first_second = reader.read(sound.rate)    # (channels, n) float32 in [-1, 1]
"""

from __future__ import annotations

import hashlib
from collections.abc import Generator, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Protocol, SupportsFloat

import av
import numpy as np
import numpy.typing as npt
import torch
from av.audio.resampler import AudioResampler
from torch import Tensor

from ...errors import BadInput
from .source import (
    VideoSource,
    decoded,
    open_container,
    open_file,
    sample_digest,
    start_s,
    tick_s,
    translate_errors,
)

Samples = npt.NDArray[np.float32]  # (channels, n), in [-1, 1]
LAYOUTS = {1: "mono", 2: "stereo"}
MAX_RATE = 10_000_000  # samples a second; a sound card's most is 768,000
GAP_S = 0.05  # tolerated distance of a timestamp from the count; more is a gap or an overlap


class Sound(Protocol):
    """A sound with 1 or 2 channels, whose first sample is at 0 s."""

    @property
    def rate(self) -> int:
        """How many samples each channel has per second."""

    @property
    def channels(self) -> int:
        """The number of channels, 1 or 2."""

    @property
    def digest(self) -> str:
        """Equal for equal sounds."""

    def blocks(self) -> Blocks:
        """The whole sound from its start, in pieces of any length."""

    def later(self, seconds: float) -> Sound:
        """The sound from second `seconds` on; empty after its end."""


class Blocks(Iterator[Samples], Protocol):
    """Pieces of a sound in order; the reader must close them."""

    def close(self) -> None:
        """Close all files; closing twice is harmless."""


def waveform(sound: Sound) -> Tensor:
    """The whole sound (1, channels, n) float32 in [-1, 1], as the host's AUDIO has it."""
    silence: Samples = np.zeros((sound.channels, 0), np.float32)
    with closing(sound.blocks()) as blocks:
        return torch.from_numpy(np.concatenate([silence, *blocks], 1))[None]


class SoundReader:
    """Reads a sound piece by piece."""

    def __init__(self, sound: Sound) -> None:
        self._blocks = sound.blocks()
        self._rest: Samples = np.zeros((sound.channels, 0), np.float32)

    def read(self, count: int) -> Samples:
        """The next `count` samples (channels, n); fewer only at the end."""
        parts, length = [self._rest], self._rest.shape[1]
        while length < count and (block := next(self._blocks, None)) is not None:
            parts.append(block)
            length += block.shape[1]
        joined = np.concatenate(parts, 1)
        self._rest = joined[:, count:].copy()
        return joined[:, :count]

    def close(self) -> None:
        """Close the source of the sound."""
        self._blocks.close()


@dataclass(frozen=True, slots=True)
class FileSound:
    """The first sound track of a video file, from second `start` of its pictures on."""

    source: VideoSource
    start: float = 0.0
    length: float | None = None
    rate: int = 0
    channels: int = 0

    @classmethod
    def probe(
        cls, source: VideoSource, start: float = 0.0, length: float | None = None
    ) -> FileSound | None:
        """The sound of a file; None if it has no sound track."""
        with open_container(source) as container:
            if not container.streams.audio:
                return None
            track = container.streams.audio[0]
            return cls(source, start, length, track.rate, min(2, track.channels))

    @property
    def digest(self) -> str:
        """Equal for the same part of an equal file."""
        return f"{sample_digest(self.source)} {self.start!r} {self.length!r}"

    def blocks(self) -> Blocks:
        """The track's blocks; silence fills its gaps and a start later than the pictures."""
        return _FileBlocks(self)

    def later(self, seconds: float) -> FileSound:
        """The same track from `seconds` later on."""
        length = None if self.length is None else max(0.0, self.length - seconds)
        return replace(self, start=self.start + seconds, length=length)


@dataclass(frozen=True, slots=True)
class SoundInMemory:
    """A waveform (1, channels, n) in [-1, 1], with `rate` samples a second."""

    waveform: Tensor
    rate: int

    @classmethod
    def of(cls, waveform: object, rate: object) -> SoundInMemory:
        """The sound of the host's AUDIO; BadInput if it is none."""
        shape = tuple(waveform.shape) if isinstance(waveform, Tensor) else repr(waveform)[:40]
        if not isinstance(waveform, Tensor) or waveform.ndim != 3 or shape[0] != 1 or not shape[1]:
            raise BadInput(
                f"The audio has the shape {shape}; give one track of shape (1, channels, samples)."
            )
        if not waveform.is_floating_point():
            raise BadInput(
                f"The audio has whole numbers ({waveform.dtype}); give samples from -1 to 1."
            )
        per_second = float(rate) if isinstance(rate, SupportsFloat) else 0.0
        if not 1 <= per_second <= MAX_RATE:
            raise BadInput(
                f"The audio has {rate!r} samples a second; give a rate from 1 to {MAX_RATE:,}."
            )
        _check_finite(waveform[0], int(per_second))
        return cls(waveform, int(per_second))

    @property
    def channels(self) -> int:
        """The number of channels, 1 or 2: of more, only the first two are used."""
        return min(2, self.waveform.shape[1])

    @property
    def digest(self) -> str:
        """Equal for equal samples at an equal rate."""
        samples = self.waveform.detach().float().cpu().contiguous().numpy()
        return f"{hashlib.sha256(samples.tobytes()).hexdigest()} {self.rate}"

    def blocks(self) -> Generator[Samples]:
        """The waveform in pieces of one second."""
        for block in self.waveform[0, : self.channels].split(self.rate, dim=1):
            yield block.float().numpy(force=True)

    def later(self, seconds: float) -> SoundInMemory:
        """The samples from `seconds` on, without copying them."""
        return SoundInMemory(self.waveform[..., round(seconds * self.rate) :], self.rate)


def _check_finite(samples: Tensor, rate: int) -> None:
    """Refuse samples (channels, n) that no encoder takes: NaN or infinity."""
    wrong = (~samples.isfinite()).any(0).nonzero().flatten()
    if len(wrong):
        raise BadInput(
            f"The audio has no number at {int(wrong[0]) / rate:.2f} s (NaN or infinity); give "
            "another sound, or check the node that makes it."
        )


def _first_picture_s(container: av.container.InputContainer) -> float:
    return float(start_s(container.streams.video[0])) if container.streams.video else 0.0


class _FileBlocks:
    """The blocks of a file's sound; the file is open from the first block to the last."""

    def __init__(self, sound: FileSound) -> None:
        self._sound, self._done = sound, 0
        self._max_samples = None if sound.length is None else round(sound.length * sound.rate)
        self._track: _DecodedTrack | None = None
        self._ended = False

    def __iter__(self) -> _FileBlocks:
        return self

    def __next__(self) -> Samples:
        while not self._ended:
            if self._track is None:
                self._track = _DecodedTrack(self._sound)
            timed = self._track.next()
            if timed is None:
                break
            at, block = timed
            block = _align(block, round(at * self._sound.rate), self._done, self._sound.rate)
            block = (
                block if self._max_samples is None else block[:, : self._max_samples - self._done]
            )
            self._done += block.shape[1]
            self._ended = self._done == self._max_samples
            if block.shape[1]:
                return block
        self.close()
        raise StopIteration

    def close(self) -> None:
        """Close the file and end the blocks."""
        track, self._track, self._ended = self._track, None, True
        if track is not None:
            track.close()

    def __del__(self) -> None:
        self.close()


class _DecodedTrack:
    """An open file and the decoder of its sound, from one second before the sound's start on."""

    def __init__(self, sound: FileSound) -> None:
        self._source = sound.source
        self._container = open_file(sound.source)
        with translate_errors(sound.source):
            self._zero = _first_picture_s(self._container) + sound.start
            track = self._container.streams.audio[0]
            self._clock = float(tick_s(track))
            if sound.start > 0:
                self._container.seek(int((self._zero - 1) / self._clock), stream=track)
            self._frames = decoded(self._container, track, sound.source)
        self._resampler: AudioResampler | None = None
        self._form: tuple[str, str, int] | None = None  # of the sound that the resampler takes
        self._channels, self._rate = sound.channels, sound.rate
        self._layout = LAYOUTS[sound.channels]
        self._waiting: list[tuple[float, Samples]] = []

    def next(self) -> tuple[float, Samples] | None:
        """The next (seconds from the sound's start, samples) of the file; None at the end."""
        while not self._waiting:
            with translate_errors(self._source):
                frame = next(self._frames, None)
                if frame is None:
                    return None
                blocks = self._convert(frame)
            if frame.pts is None:
                continue
            at = frame.pts * self._clock - self._zero
            for samples in blocks:
                self._waiting.append((at, samples))
                at += samples.shape[1] / self._rate
        return self._waiting.pop(0)

    def close(self) -> None:
        self._container.close()

    def _convert(self, frame: av.AudioFrame) -> list[Samples]:
        """A frame at the sound's rate and channels; recordings change theirs between programmes."""
        form = (frame.format.name, frame.layout.name, frame.sample_rate)
        mixes = frame.layout.nb_channels > self._channels  # only whole numbers are kept in range
        format, scale = ("s32p", 2.0**-31) if mixes else ("fltp", 1.0)
        if self._resampler is None or form != self._form:
            self._form = form
            self._resampler = AudioResampler(format=format, layout=self._layout, rate=self._rate)
        parts = [part.to_ndarray() for part in self._resampler.resample(frame)]
        return [part.astype(np.float32, copy=False) * np.float32(scale) for part in parts]


def _align(block: Samples, start: int, done: int, rate: int) -> Samples:
    """The part of a block at sample `start` that follows `done` samples.

    Silence fills a gap; an overlap is cut off.
    """
    shift = start - done
    if done and abs(shift) <= GAP_S * rate:
        return block
    if shift >= 0:
        return np.pad(block, ((0, 0), (shift, 0)))
    return block[:, -shift:]
