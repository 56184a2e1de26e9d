"""Syncs finished files to the disk on another thread, while the writer continues.

Written data survives the death of the process, since the operating system holds it. Only a power
cut loses data that is not on the disk yet. A sync can take longer than a GPU needs for a chunk.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

Force = Callable[[Path], None]


def force(path: Path) -> None:
    """Wait until a file and its name are on the disk.

    If that fails, the file is removed before the OSError is raised: the system may still show
    content that never reaches the disk.
    """
    try:
        _sync(path, os.O_RDWR)  # Windows only syncs writable files
        if sys.platform != "win32":  # Windows cannot sync folders
            _sync(path.parent, os.O_RDONLY)
    except FileNotFoundError:
        return  # removed meanwhile
    except OSError:
        with contextlib.suppress(OSError):
            path.unlink()
        raise


class DiskSync:
    """Syncs one file after the other on a thread of its own; at most one file waits.

    An error is raised when the next file is handed over, or at the end. Open and close it on one
    thread.
    """

    def __init__(self) -> None:
        self._owner = threading.get_ident()
        self._thread = ThreadPoolExecutor(1, "longtake disk")
        self._waiting: Future[None] | None = None

    def force(self, path: Path) -> None:
        """Start syncing a file after the previous one is on the disk."""
        self.settle()
        self._waiting = self._thread.submit(force, path)

    def settle(self) -> None:
        """Wait until all files are on the disk."""
        waiting, self._waiting = self._waiting, None
        if waiting is not None:
            waiting.result()

    def close(self) -> None:
        """Wait for all files and end the thread.

        A garbage collector may close it on any thread. It waits for none, since that may be the
        very thread that syncs; a file that waits is then on the disk soon after.
        """
        if threading.get_ident() != self._owner:
            self._thread.shutdown(wait=False)
            return
        try:
            self.settle()
        finally:
            self._thread.shutdown()


def _sync(path: Path, flags: int) -> None:
    descriptor = os.open(path, flags)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
