"""Reads a live source on a thread of its own, as fast as it comes, while chunks are made."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Protocol

import av
import numpy as np
import torch
from torch import Tensor

from ...errors import LongtakeError
from ..video.display.upright import PLAIN, StreamHeader, Upright
from ..video.reading.reader import Resizer
from .connection import SourceLost
from .picture_buffer import PictureBuffer

RETRY_S = 2.0  # until a lost source is tried again


class PictureSource(Protocol):
    """An open live source."""

    @property
    def header(self) -> StreamHeader:
        """What the source says of all its pictures."""

    @property
    def is_file(self) -> bool:
        """Whether the source ends for good, so that it is not opened again."""

    def next(self) -> tuple[float, av.VideoFrame] | None:
        """The next picture and its time in seconds; None at the end. SourceLost if it breaks."""

    def interrupt(self) -> None:
        """End a read that waits, from another thread."""

    def close(self) -> None:
        """Close the source and its decoder."""


Connect = Callable[[threading.Event], PictureSource]


class Receiver:
    """The newest pictures of one live source, in one size.

    `connect` opens the source; a LongtakeError of its first call ends the run that reads. It gets
    an event that says when the reading has ended, and gives up then if it can. `size` is the width
    and height of the shot in pixels, `fps` its frames a second, `most_frames` the most that a chunk
    takes at once. `tell` gets a sentence when the source breaks off, comes back or changes its
    size.
    """

    def __init__(
        self,
        connect: Connect,
        size: tuple[int, int],
        fps: float,
        most_frames: int,
        tell: Callable[[str], None],
    ) -> None:
        self._connect, self._tell = connect, tell
        self._width, self._height = size
        self._resizer = Resizer(*size)
        self._buffer = PictureBuffer[av.VideoFrame](fps, most_frames)
        self._closing = threading.Event()
        self._source: PictureSource | None = None
        self._failure: Exception | None = None
        self._header = PLAIN
        self._frame_size: tuple[int, int] | None = None
        self.is_lost = False
        self._thread = threading.Thread(target=self._run, name="longtake live input", daemon=True)
        self._thread.start()

    @property
    def dropped(self) -> int:
        """Frames at the shot's rate that came while chunks were made, and were left out."""
        return self._buffer.dropped

    def is_ready(self, count: int) -> bool:
        """Whether `count` new frames are there; LongtakeError if the source cannot be opened.

        An error of the reading thread that nobody expects is raised here too, as it is.
        """
        if self._failure is not None:
            raise self._failure
        return self._buffer.is_ready(count)

    def take(self, count: int, before: int = 0) -> Tensor:
        """The newest `count` frames after `before` earlier ones (n, 3, H, W), RGB in [0, 1].

        No frames (0, 3, H, W) if the source was lost since `is_ready`.
        """
        pictures = [
            self._resizer.resize(frame, Upright.by_rotation(frame, self._header))
            for frame in self._buffer.take(count, before)
        ]
        if not pictures:
            return torch.empty(0, 3, self._height, self._width)
        return torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).float() / 255

    def close(self) -> None:
        """End the reading. A thread that waits for the network ends when that gives up."""
        self._closing.set()
        source = self._source
        if source is not None:
            source.interrupt()
        if self._thread is not threading.current_thread():
            self._thread.join(1.0)

    def _run(self) -> None:
        try:
            self._receive()
        except Exception as error:  # without this thread, the run would wait for ever
            self._failure = error

    def _receive(self) -> None:
        is_first = True
        while not self._closing.is_set():
            try:
                self._source = self._connect(self._closing)
            except LongtakeError as error:
                if is_first:
                    self._failure = error
                    return
                self._closing.wait(RETRY_S)
                continue
            is_first = False
            if self._read(self._source):
                return
            self._closing.wait(RETRY_S)

    def _read(self, source: PictureSource) -> bool:
        """Read a source to its end; True if that was the last of it."""
        self._header = source.header
        try:
            while not self._closing.is_set():
                picture = source.next()
                if picture is None:
                    return self._end(source)
                self._add(*picture)
        except (SourceLost, LongtakeError) as error:
            self._lose(str(error))
        finally:
            source.close()
        return self._closing.is_set()

    def _add(self, at: float, frame: av.VideoFrame) -> None:
        size = frame.width, frame.height
        if self.is_lost:
            self.is_lost = False
            self._tell("The live source is back.")
        if self._frame_size not in (None, size):
            before, now = (f"{width}x{height}" for width, height in (self._frame_size, size))
            self._tell(
                f"The live source changed its size from {before} to {now}; its pictures are "
                "scaled and cropped to the shot's size."
            )
        self._frame_size = size
        self._buffer.add(at, frame)

    def _end(self, source: PictureSource) -> bool:
        self._lose(
            "The live source has ended; the shot goes on without it."
            if source.is_file
            else "The live source has ended; the shot goes on without it until it is back."
        )
        return source.is_file

    def _lose(self, sentence: str) -> None:
        self.is_lost = True
        self._buffer.forget()
        if not self._closing.is_set():
            self._tell(sentence)
