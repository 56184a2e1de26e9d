"""Frames into a file while they are made: encoded on a worker thread, playable after every chunk.

    with open_video(path, VideoSpec(width=96, height=64, fps=16)) as video:
        for chunk in stream:
            video.write(chunk.frames)

At most two chunks wait for the worker, so that memory is constant and a slow disk slows the maker.
"""

from __future__ import annotations

import contextlib
import functools
import math
import os
import queue
import threading
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Protocol

import av
from PIL import Image
from torch import Tensor

from ...errors import BadInput, LongtakeError, StorageError
from ..lazy.frame_chunk import Pictures, to_pictures
from .fragments import MatroskaClusters, MP4Fragments, require_encoder
from .sound import Sound
from .sound_track import AAC, FLAC, SoundTrack

FRAME_NAME = "frame_%06d.png"
WAITING_CHUNKS = 2
MAX_SIDE = 16384  # what h264 and FFV1 can describe, and more than anyone can generate


@dataclass(frozen=True, slots=True)
class FragmentedMP4:
    """h264, plays everywhere. `crf` 0 (best) to 51; 18 looks like the source."""

    crf: int = 18

    def __post_init__(self) -> None:
        if not 0 <= self.crf <= 51:
            raise BadInput(f"crf must be from 0 to 51; got {self.crf}.")


@dataclass(frozen=True, slots=True)
class LosslessMKV:
    """FFV1: every 8-bit value comes back; about ten times the size of an MP4."""


@dataclass(frozen=True, slots=True)
class PNGFrames:
    """A folder of numbered PNG files, named by `FRAME_NAME`."""


Container = FragmentedMP4 | LosslessMKV | PNGFrames


@dataclass(frozen=True, slots=True)
class VideoSpec:
    """Size in pixels, frames per second, and what to write. MP4 rounds odd sizes up.

    `sound` goes beside the pictures, no longer than they last; a folder of pictures has none.
    """

    width: int
    height: int
    fps: float | Fraction
    codec: Container = FragmentedMP4()
    sound: Sound | None = None

    def __post_init__(self) -> None:
        if not (0 < self.width <= MAX_SIDE and 0 < self.height <= MAX_SIDE):
            raise BadInput(
                f"The video's width and height must be from 1 to {MAX_SIDE}; "
                f"got {self.width} x {self.height}."
            )
        if not (math.isfinite(self.fps) and 0 < self.fps <= 1000):
            raise BadInput(f"The video's fps must be above 0 and at most 1000; got {self.fps}.")

    @property
    def rate(self) -> Fraction:
        """Frames per second as the fraction that containers want."""
        return Fraction(self.fps).limit_denominator(1001)


def open_video(path: Path, spec: VideoSpec) -> VideoWriter:
    """Begin the video at `path` (a folder for PNG frames), in place of what was there.

    StorageError or BadInput, and nothing left behind, where that cannot be done.
    """
    return VideoWriter(_open_target(path, spec), spec)


class VideoWriter:
    """A growing video; close it in every case. Errors surface at the next write, flush or close."""

    def __init__(self, target: _Target, spec: VideoSpec) -> None:
        self.spec = spec
        self.frames_written = 0  # in the file, as is `bytes_written`
        self.bytes_written = 0
        self._target = target
        self._error: BaseException | None = None
        self._told = False
        self._closed = False
        self._waiting: queue.Queue[Tensor | None] = queue.Queue(WAITING_CHUNKS)
        self._worker = threading.Thread(target=self._work, name="longtake video", daemon=True)
        self._worker.start()

    def write(self, frames: Tensor) -> None:
        """Hand over frames `(n, 3, H, W)`, RGB in [0, 1], not to be changed afterwards.

        Waits while two chunks are waiting already.
        """
        expected = (3, self.spec.height, self.spec.width)
        if frames.shape[1:] != expected:
            raise ValueError(f"frames must be (n, {expected}); got {tuple(frames.shape)}")
        if self._closed:
            raise ValueError("the video is closed")
        self._raise_error()
        if len(frames):
            self._waiting.put(frames)

    def flush(self) -> None:
        """Wait until everything handed over is in the file."""
        self._waiting.join()
        self._raise_error()

    def close(self) -> None:
        """Finish the file; one without any frame is removed. Closing twice is harmless.

        Raises the worker's error if no write or flush did.
        """
        if not self._closed:
            self._closed = True
            self._waiting.put(None)
            self._worker.join()
        if not self._told:
            self._raise_error()

    def __enter__(self) -> VideoWriter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _raise_error(self) -> None:
        if self._error is not None:
            self._told = True
            raise self._error

    def _work(self) -> None:
        """Encode until told to stop; after a failure only empty the queue, so that nobody hangs."""
        while (frames := self._waiting.get()) is not None:
            if self._error is None:
                self._attempt(functools.partial(self._append, frames))
            del frames  # before waiting for the next
            self._waiting.task_done()
        self._attempt(self._finish)
        self._waiting.task_done()

    def _attempt(self, action: Callable[[], None]) -> None:
        """Keep an error of the worker, to be raised on its owner's thread."""
        try:
            action()
        except BaseException as error:
            self._error = self._error or error

    def _finish(self) -> None:
        self.bytes_written += self._target.close()

    def _append(self, frames: Tensor) -> None:
        self.bytes_written += self._target.append(to_pictures(frames))
        self.frames_written += len(frames)


class _Target(Protocol):
    """Where encoded pictures go."""

    def append(self, pictures: Pictures) -> int:
        """Put the pictures at the end and return the bytes that took."""

    def close(self) -> int:
        """Leave it whole, or nothing if it is empty; the bytes that took."""


class _Encoder(Protocol):
    def encode(self, pictures: Pictures) -> bytes:
        """The bytes that continue the file by the pictures."""

    def finish(self) -> bytes:
        """The bytes that end it: what was held back."""


class _GrowingFile:
    """A file that is whole after every piece: what could not be written whole is cut off again."""

    def __init__(self, path: Path, encoder: _Encoder, track: SoundTrack | None) -> None:
        self._path, self._encoder, self._track = path, encoder, track
        self._whole_bytes = 0
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = path.open("wb", buffering=0)
        except OSError as error:
            raise _cannot_write(path, error) from error

    def append(self, pictures: Pictures) -> int:
        return self._write(lambda: self._encoder.encode(pictures))

    def close(self) -> int:
        try:
            return self._write(self._encoder.finish)
        finally:
            self._file.close()
            if self._track is not None:
                self._track.close()
            if not self._whole_bytes:
                self._path.unlink(missing_ok=True)

    def _write(self, encoded: Callable[[], bytes]) -> int:
        piece = memoryview(self._encoded(encoded))
        try:
            written = 0
            while written < len(piece):
                written += self._file.write(piece[written:])
        except OSError as error:
            with contextlib.suppress(OSError):  # if even this fails, players skip the rest
                self._file.truncate(self._whole_bytes)
            raise _cannot_write(self._path, error) from error
        self._whole_bytes += len(piece)
        return len(piece)

    def _encoded(self, encoded: Callable[[], bytes]) -> bytes:
        try:
            return encoded()
        except av.FFmpegError as error:
            raise LongtakeError(
                f"The encoder failed on {self._path} ({error}); choose another size or container."
            ) from error


class _PNGFolder:
    """frame_000000.png and so on; each appears whole."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._frames = 0
        try:
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "frame.tmp").touch()
        except OSError as error:
            raise _cannot_write(folder, error) from error

    def append(self, pictures: Pictures) -> int:
        return sum(self._append_one(Image.fromarray(picture)) for picture in pictures)

    def close(self) -> int:
        (self._folder / "frame.tmp").unlink(missing_ok=True)
        return 0

    def _append_one(self, image: Image.Image) -> int:
        temporary = self._folder / "frame.tmp"
        try:
            image.save(temporary, format="PNG", compress_level=1)
            os.replace(temporary, self._folder / (FRAME_NAME % self._frames))
        except OSError as error:
            raise _cannot_write(self._folder, error) from error
        self._frames += 1
        return (self._folder / (FRAME_NAME % (self._frames - 1))).stat().st_size


def _open_target(path: Path, spec: VideoSpec) -> _Target:
    match spec.codec:
        case FragmentedMP4(crf):
            require_encoder("libx264")
            require_encoder(AAC)
            track = _track(spec, AAC)
            return _GrowingFile(path, MP4Fragments(spec.rate, crf, track), track)
        case LosslessMKV():
            require_encoder("ffv1")
            track = _track(spec, FLAC)
            return _GrowingFile(path, MatroskaClusters(spec.rate, track), track)
        case PNGFrames():
            return _PNGFolder(path)


def _track(spec: VideoSpec, codec: str) -> SoundTrack | None:
    return None if spec.sound is None else SoundTrack(spec.sound, codec)


def _cannot_write(path: Path, error: OSError) -> StorageError:
    return StorageError(
        f"The video {path} cannot be written ({error.strerror or error}); "
        f"free some space or choose another folder."
    )
