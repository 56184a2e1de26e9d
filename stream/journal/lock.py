"""A lock between processes that ends with its owner.

The operating system holds the lock on an open file, so a killed process leaves no stale lock. The
process id in the file only serves the error message of a second process.
"""

from __future__ import annotations

import contextlib
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

    def _lock(descriptor: int, *, shared: bool = False) -> None:
        os.lseek(descriptor, LOCKED_BYTE, os.SEEK_SET)
        try:
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        except OSError:
            if not shared:  # there are no shared locks: a second reader relies on the first one's
                raise
        os.lseek(descriptor, 0, os.SEEK_SET)

else:
    import fcntl

    def _lock(descriptor: int, *, shared: bool = False) -> None:
        fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)


NO_FOLLOW = getattr(os, "O_NOFOLLOW", 0)  # Windows has none
CHANGE = "change the seed or output folder"
PID_BYTES = 32  # more than a process id has
READ_ONLY = (errno.EROFS, errno.EACCES, errno.EPERM)
HELD_ELSEWHERE = (errno.EAGAIN, errno.EACCES, errno.EDEADLK)


class Held(BadInput):
    """Another owner has the lock, the process with the id `owner`; `change` is another way out."""

    def __init__(self, subject: str, owner: str, change: str) -> None:
        super().__init__(
            f"{subject} is already running in process {owner}; wait for it, stop it, or {change}."
        )


class ProcessLock:
    """Held from construction to `release`, by one owner on this machine or many `shared` ones.

    Held names the process that holds it, and says `change`, another way out. Only its owner may
    delete the file: who has locked a deleted file tries again.
    """

    def __init__(
        self, path: Path, subject: str, change: str = CHANGE, *, shared: bool = False
    ) -> None:
        self._path, self._change = path, change
        self._descriptor: int | None = _open(path)
        try:
            self._acquire(subject, shared=shared)
            while not _is_same(self._descriptor, path):
                self.release()
                self._descriptor = _open(path)
                self._acquire(subject, shared=shared)
            _write_owner(self._descriptor)
        except OSError as error:
            self.release()
            raise StorageError(
                f"The lock file {path} cannot be written ({error.strerror}); free some space or "
                "choose another folder."
            ) from error
        except BaseException:
            self.release()
            raise

    def _acquire(self, subject: str, *, shared: bool) -> None:
        assert self._descriptor is not None
        try:
            _lock(self._descriptor, shared=shared)
        except OSError as error:
            if error.errno in HELD_ELSEWHERE:
                raise Held(subject, _read_owner(self._descriptor), self._change) from error
            raise StorageError(
                f"The folder {self._path.parent} does not support file locks ({error.strerror}); "
                f"choose a folder on a local disk."
            ) from error

    def delete(self) -> None:
        """Release the lock and delete its file; harmless once it is released."""
        if self._descriptor is None:
            return
        if sys.platform == "win32":  # which deletes no open file, nor that of the next owner
            self.release()
            with contextlib.suppress(PermissionError):
                self._path.unlink(missing_ok=True)
        else:
            self._path.unlink(missing_ok=True)
            self.release()

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


def is_held(path: Path) -> bool:
    """Whether any owner has the lock; writes nothing, so a folder may be read-only."""
    try:
        descriptor = _open_to_test(path)
    except FileNotFoundError:
        return False
    except OSError as error:
        raise StorageError(
            f"The lock file {path} cannot be read ({error.strerror}); check its permissions."
        ) from error
    try:
        _lock(descriptor)
    except OSError as error:
        if error.errno in HELD_ELSEWHERE:
            return True
        raise StorageError(
            f"The lock file {path} cannot be tested ({error.strerror}); use a folder on a local "
            "disk."
        ) from error
    finally:
        os.close(descriptor)
    return False


def _open_to_test(path: Path) -> int:
    """Open a lock file that exists, to write where one may: NFS locks no other file."""
    try:
        return os.open(path, os.O_RDWR | NO_FOLLOW)
    except OSError as error:
        if error.errno not in READ_ONLY:
            raise
    return os.open(path, os.O_RDONLY | NO_FOLLOW)


def _open(path: Path) -> int:
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT | NO_FOLLOW, 0o644)
    except OSError as error:
        raise StorageError(
            f"The lock file {path} cannot be opened ({error.strerror}); "
            f"make its folder writable or choose another one."
        ) from error


def _is_same(descriptor: int, path: Path) -> bool:
    """Whether `path` still is the open file, which an earlier owner may have deleted."""
    try:
        named = os.stat(path, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return os.path.samestat(os.fstat(descriptor), named)


def _read_owner(descriptor: int) -> str:
    os.lseek(descriptor, 0, os.SEEK_SET)
    words = os.read(descriptor, PID_BYTES).decode("ascii", "replace").split()
    return words[0] if words else "unknown"


def _write_owner(descriptor: int) -> None:
    """Write this process's id, unless it is there; to truncate a file takes a millisecond."""
    owner = f"{os.getpid()}\n".encode("ascii")
    os.lseek(descriptor, 0, os.SEEK_SET)
    before = os.read(descriptor, PID_BYTES)
    if before == owner:
        return
    os.lseek(descriptor, 0, os.SEEK_SET)
    os.write(descriptor, owner)
    if len(before) > len(owner):
        os.ftruncate(descriptor, len(owner))
