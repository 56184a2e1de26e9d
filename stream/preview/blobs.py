"""Immutable blobs: the newest in memory, older ones in files, the oldest ones dropped.

The thread that adds a blob also moves older ones to files. Readers take no lock, so they never wait
for a disk that is busy with another blob.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Iterable
from pathlib import Path

logger = logging.getLogger("longtake")


class Blob:
    """Bytes in memory, in a file, or dropped. Only the store changes a blob."""

    __slots__ = ("_content", "_gone", "_path", "size")

    def __init__(self, content: bytes, path: Path) -> None:
        self.size = len(content)
        self._path = path  # where it moves when memory is short
        self._content: bytes | None = content
        self._gone = False

    @property
    def gone(self) -> bool:
        """Whether the bytes were dropped."""
        return self._gone

    @property
    def content(self) -> bytes | None:
        """The bytes if they are in memory; otherwise use `read`."""
        return self._content

    def read(self) -> bytes | None:
        """The bytes, if necessary from a file (which blocks); None if they were dropped."""
        content = self._content
        if content is not None or self._gone:
            return content
        with contextlib.suppress(OSError):  # dropped meanwhile, or the temp folder was emptied
            return self._path.read_bytes()
        return None

    def to_file(self) -> None:
        """Move the bytes to a file; OSError if that fails."""
        if self._content is not None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._path.write_bytes(self._content)
            self._content = None

    def drop(self) -> None:
        """Delete the bytes from memory and disk."""
        self._gone, self._content = True, None
        with contextlib.suppress(OSError):  # the file is deleted with its folder
            self._path.unlink(missing_ok=True)


class BlobStore:
    """Blobs within one budget for memory and one for files; the oldest ones move or go first."""

    def __init__(self, ram_budget: int, disk_budget: int) -> None:
        self.ram_bytes = 0
        self.disk_bytes = 0
        self.disk_error: str | None = None  # why the last failed write failed
        self._budgets = ram_budget, disk_budget
        self._in_ram: dict[Blob, None] = {}  # oldest first
        self._in_files: dict[Blob, None] = {}
        self._lock = threading.Lock()

    def add(self, content: bytes, path: Path) -> Blob:
        """Store bytes. `path` must belong to this blob; it is used only if memory is short."""
        blob = Blob(content, path)
        with self._lock:
            self._in_ram[blob] = None
            self.ram_bytes += blob.size
            while self.ram_bytes > self._budgets[0]:
                self._move_out(next(iter(self._in_ram)))
            while self.disk_bytes > self._budgets[1]:
                self._forget(next(iter(self._in_files)))
        return blob

    def drop(self, blobs: Iterable[Blob]) -> None:
        """Drop blobs before the budget requires it."""
        with self._lock:
            for blob in blobs:
                self._forget(blob)

    def _move_out(self, blob: Blob) -> None:
        try:
            blob.to_file()
        except OSError as error:
            reason = error.strerror or str(error)
            if reason != self.disk_error:  # a long run would say it with every chunk
                logger.warning(
                    "The preview cannot use its temp folder (%s) and drops frames; free some space "
                    "or make the folder writable.", error,
                )  # fmt: skip
            self.disk_error = reason
            self._forget(blob)
            return
        del self._in_ram[blob]
        self.ram_bytes -= blob.size
        self._in_files[blob] = None
        self.disk_bytes += blob.size

    def _forget(self, blob: Blob) -> None:
        if blob in self._in_ram:
            del self._in_ram[blob]
            self.ram_bytes -= blob.size
        elif blob in self._in_files:
            del self._in_files[blob]
            self.disk_bytes -= blob.size
        blob.drop()
