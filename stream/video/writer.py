"""Writes frames to a video while they are made: encoded by a worker thread, playable throughout.

    with open_video(path, VideoSpec(width=96, height=64, fps=16)) as video:
        for chunk in stream:
            video.write(chunk.frames)

At most two chunks wait for the worker. Memory stays constant, and a slow disk slows the caller.
"""

from __future__ import annotations

import functools
import queue
import threading
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

from torch import Tensor

from ..compute_threads import compute_alone
from ..lazy.frame_chunk import to_pictures
from .contact_sheet import ContactSheet
from .pieces import PieceLog
from .spec import VideoSpec
from .target import VideoTarget, open_target

WAITING_CHUNKS = 2


def open_video(
    path: Path, spec: VideoSpec, log: PieceLog | None = None, sheet: ContactSheet | None = None
) -> VideoWriter:
    """Begin a video at `path` (a folder for PNG frames), in place of an older one.

    With a `log`, go on after the pieces that it lists, and note every piece there. If that is
    impossible, StorageError or BadInput says why and nothing is left behind. A `sheet` gets every
    picture that is written, and is complete when the video is closed.
    """
    try:
        return VideoWriter(open_target(path, spec, log.pieces if log else ()), spec, log, sheet)
    except BaseException:
        if log is not None:
            log.close(complete=False)
        raise


class VideoWriter:
    """A growing video, which must be closed. The next write, flush or close raises its errors."""

    def __init__(
        self,
        target: VideoTarget,
        spec: VideoSpec,
        log: PieceLog | None = None,
        sheet: ContactSheet | None = None,
    ) -> None:
        self.spec = spec
        self.frames_written = log.frames if log else 0  # in the file, as is `bytes_written`
        self.bytes_written = log.size if log else 0
        self._target, self._log, self._sheet = target, log, sheet
        self._error: BaseException | None = None
        self._error_raised = False
        self._closed = self._complete = False
        self._waiting: queue.Queue[tuple[Tensor, str | None] | None] = queue.Queue(WAITING_CHUNKS)
        self._worker = threading.Thread(target=self._work, name="longtake video", daemon=True)
        self._worker.start()

    def write(self, frames: Tensor, key: str | None = None) -> None:
        """Queue frames `(n, 3, H, W)`, RGB in [0, 1], which must not change afterwards.

        `key` identifies the pictures since the last one with a key. Only such are noted in the log.
        Blocks while two chunks are waiting.
        """
        expected = (3, self.spec.height, self.spec.width)
        if frames.shape[1:] != expected:
            raise ValueError(f"frames must be (n, {expected}); got {tuple(frames.shape)}")
        if self._closed:
            raise ValueError("the video is closed")
        self._raise_error()
        if len(frames):
            self._waiting.put((frames, key))

    def flush(self) -> None:
        """Wait until all queued frames are in the file."""
        self._waiting.join()
        self._raise_error()

    def close(self, *, complete: bool = True) -> None:
        """Close the file, or remove it if it has no frames. Closing twice is harmless.

        A video that is not `complete` stays in the form in which it can grow. Raises the worker's
        error unless a write or flush has raised it.
        """
        if not self._closed:
            self._closed, self._complete = True, complete
            self._waiting.put(None)
            self._worker.join()
        if not self._error_raised:
            self._raise_error()

    def __enter__(self) -> VideoWriter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close(complete=kind is None)

    def _raise_error(self) -> None:
        if self._error is not None:
            self._error_raised = True
            raise self._error

    def _work(self) -> None:
        """Encode until the end; after a failure only empty the queue, so that no caller hangs."""
        compute_alone()
        while (queued := self._waiting.get()) is not None:
            if self._error is None:
                self._attempt(functools.partial(self._append, *queued))
            del queued  # before waiting for the next
            self._waiting.task_done()
        self._attempt(self._finish)
        self._waiting.task_done()

    def _attempt(self, action: Callable[[], None]) -> None:
        """Keep an error for the caller's thread."""
        try:
            action()
        except BaseException as error:
            self._error = self._error or error

    def _finish(self) -> None:
        complete, target = self._complete and self._error is None, self._target
        del self._target  # its encoder holds pictures and sound; a run counts the bytes for longer
        try:
            self.bytes_written += target.close(complete=complete)
        finally:
            if self._log is not None:
                self._log.close(complete=complete)

    def _append(self, frames: Tensor, key: str | None) -> None:
        pictures = to_pictures(frames, self.spec.bits)
        self.bytes_written += self._target.append(pictures)
        self.frames_written += len(frames)
        if self._log is not None and key is not None:
            self._log.append(key, self.frames_written, self.bytes_written)
        if self._sheet is not None:
            self._sheet.add(pictures)
