"""The sound of a video file."""

from __future__ import annotations

from dataclasses import dataclass, replace

import av
import numpy as np

from ..reading.source import (
    VideoSource,
    content_digest,
    decoded,
    open_container,
    open_file,
    start_s,
    tick_s,
    translate_errors,
)
from .mixing import Mixer
from .reading import Blocks, Samples

GAP_S = 0.05  # tolerated distance of a timestamp from the count; more is a gap or an overlap


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
        return f"{content_digest(self.source)} {self.start!r} {self.length!r}"

    def blocks(self) -> Blocks:
        """The track's blocks; silence fills its gaps and a start later than the pictures."""
        return _FileBlocks(self)

    def later(self, seconds: float) -> FileSound:
        """The same track from `seconds` later on."""
        length = None if self.length is None else max(0.0, self.length - seconds)
        return replace(self, start=self.start + seconds, length=length)


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
        self._rate, self._mixer = sound.rate, Mixer(sound.channels, sound.rate)
        self._waiting: list[tuple[float, Samples]] = []

    def next(self) -> tuple[float, Samples] | None:
        """The next (seconds from the sound's start, samples) of the file; None at the end."""
        while not self._waiting:
            with translate_errors(self._source):
                frame = next(self._frames, None)
                if frame is None:
                    return None
                blocks = self._mixer.mix(frame)
            if frame.pts is None:
                continue
            at = frame.pts * self._clock - self._zero
            for samples in blocks:
                self._waiting.append((at, samples))
                at += samples.shape[1] / self._rate
        return self._waiting.pop(0)

    def close(self) -> None:
        self._container.close()


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
