"""A lock between processes that ends with its owner.

The operating system holds the lock on an open file, so a killed process leaves no stale lock. The
process id in the file only serves the error message of a second process.
"""

from __future__ import annotations

import errno
import os
import sys
from pathlib import Path
from types import TracebackType

from ...errors import BadInput, StorageError

if sys.platform == "win32":
    import msvcrt

    # Others cannot read a locked byte: lock one far behind the process id.
    LOCKED_BYTE = 1 << 30

    def _lock(descriptor: int) -> None:
        os.lseek(descriptor, LOCKED_BYTE, os.SEEK_SET)
        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        os.lseek(descriptor, 0, os.SEEK_SET)

else:
    import fcntl

    def _lock(descriptor: int) -> None:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


NO_FOLLOW = getattr(os, "O_NOFOLLOW", 0)  # Windows has none
HELD_ELSEWHERE = (errno.EAGAIN, errno.EACCES, errno.EDEADLK)


class ProcessLock:
    """Held from construction to `release`, by at most one owner on this machine.

    BadInput names the process that holds it. The small file is never deleted, so that two owners
    cannot lock different files of the same name.
    """

    def __init__(self, path: Path, subject: str) -> None:
        self._descriptor: int | None = _open(path)
        try:
            _lock(self._descriptor)
        except OSError as error:
            owner = _read_owner(self._descriptor)
            self.release()
            if error.errno in HELD_ELSEWHERE:
                raise BadInput(
                    f"{subject} is already running in process {owner}; "
                    f"wait for it, stop it, or change the seed or output folder."
                ) from error
            raise StorageError(
                f"The folder {path.parent} does not support file locks ({error.strerror}); "
                f"choose a folder on a local disk."
            ) from error
        _write_owner(self._descriptor)

    def release(self) -> None:
        """Release the lock; releasing twice is harmless."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)

    def __enter__(self) -> ProcessLock:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.release()


def _open(path: Path) -> int:
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT | NO_FOLLOW, 0o644)
    except OSError as error:
        raise StorageError(
            f"The lock file {path} cannot be opened ({error.strerror}); "
            f"make its folder writable or choose another one."
        ) from error


def _read_owner(descriptor: int) -> str:
    os.lseek(descriptor, 0, os.SEEK_SET)
    return os.read(descriptor, 32).decode("ascii", "replace").strip() or "unknown"


def _write_owner(descriptor: int) -> None:
    os.lseek(descriptor, 0, os.SEEK_SET)
    os.ftruncate(descriptor, 0)
    os.write(descriptor, f"{os.getpid()}\n".encode("ascii"))
