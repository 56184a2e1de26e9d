"""Finished files are forced to the disk behind whoever writes them.

What a process has written is kept when the process dies: the system has it. Only a power cut takes
what is not on the disk yet, and a disk can need longer for that than a GPU for a chunk.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

Force = Callable[[Path], None]


def force(path: Path) -> None:
    """Wait until a file and its name are on the disk; OSError says why they cannot be.

    Then the file is removed: what the system still shows of it may not be there tomorrow.
    """
    try:
        _sync(path, os.O_RDWR)  # Windows forces only what it may write
        if sys.platform != "win32":  # which has no such call for folders
            _sync(path.parent, os.O_RDONLY)
    except FileNotFoundError:
        return  # taken away since
    except OSError:
        with contextlib.suppress(OSError):
            path.unlink()
        raise


class DiskSync:
    """Forces one file after the other to the disk on a thread of its own, one waiting at the most.

    What keeps a file from the disk is raised where the next one is given, or at the end.
    """

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, "longtake disk")
        self._waiting: Future[None] | None = None

    def force(self, path: Path) -> None:
        """Begin to force a file to the disk, once the one before is there."""
        self.settle()
        self._waiting = self._thread.submit(force, path)

    def settle(self) -> None:
        """Wait until everything given is on the disk."""
        waiting, self._waiting = self._waiting, None
        if waiting is not None:
            waiting.result()

    def close(self) -> None:
        """Settle, and end the thread."""
        try:
            self.settle()
        finally:
            self._thread.shutdown()


def _sync(path: Path, how: int) -> None:
    descriptor = os.open(path, how)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
