"""Immutable pieces of bytes: the newest in memory, older ones in files, the oldest of all dropped.

Whoever adds to a `BlobStore` does the moving. Readers take no lock and so never wait for a disk
that is busy with somebody else's blob.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Iterable
from pathlib import Path

logger = logging.getLogger("longtake")


class Blob:
    """One piece: in memory, in a file, or gone. Only its store changes it."""

    __slots__ = ("_content", "_gone", "_path", "size")

    def __init__(self, content: bytes, path: Path) -> None:
        self.size = len(content)
        self._path = path  # where it goes when memory is short
        self._content: bytes | None = content
        self._gone = False

    @property
    def gone(self) -> bool:
        """Whether it was dropped."""
        return self._gone

    @property
    def content(self) -> bytes | None:
        """The bytes if they are in memory; otherwise `read` gets them."""
        return self._content

    def read(self) -> bytes | None:
        """The bytes, from a file if need be (this blocks), or None if they are gone."""
        content = self._content
        if content is not None or self._gone:
            return content
        with contextlib.suppress(OSError):  # dropped meanwhile, or the temp folder was emptied
            return self._path.read_bytes()
        return None

    def to_file(self) -> None:
        """Write the bytes to a file and forget them; OSError if that cannot be done."""
        if self._content is not None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._path.write_bytes(self._content)
            self._content = None

    def drop(self) -> None:
        """Forget the bytes, wherever they are."""
        self._gone, self._content = True, None
        with contextlib.suppress(OSError):  # a file that cannot be removed goes with its folder
            self._path.unlink(missing_ok=True)


class BlobStore:
    """Bytes within a budget in memory and another one in files; the oldest blobs give way first."""

    def __init__(self, ram_budget: int, disk_budget: int) -> None:
        self.ram_bytes = 0
        self.disk_bytes = 0
        self.disk_error: str | None = None  # why a blob could not be written, the last time
        self._budgets = ram_budget, disk_budget
        self._in_ram: dict[Blob, None] = {}  # oldest first, as in files
        self._in_files: dict[Blob, None] = {}
        self._lock = threading.Lock()

    def add(self, content: bytes, path: Path) -> Blob:
        """Keep the bytes; `path` must be theirs alone, and is used only if memory is short."""
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
        """Let blobs go before their time."""
        with self._lock:
            for blob in blobs:
                self._forget(blob)

    def _move_out(self, blob: Blob) -> None:
        try:
            blob.to_file()
        except OSError as error:
            logger.warning("The preview cannot use its temp folder (%s); frames are lost.", error)
            self.disk_error = error.strerror or str(error)
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
