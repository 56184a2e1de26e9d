"""A folder as a store, such as one on a disk that several machines have mounted."""

from __future__ import annotations

import contextlib
import os
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path

from ...machine.temporary_files import put_in_place
from .store import StoreLost

PARTIAL = "partial"  # the folder of files that are being written; a kill may leave some


class FolderStore:
    """Files appear whole under their names. Where the disk has hard links, `create` is atomic."""

    def __init__(self, root: Path) -> None:
        self.root, self.title = root, str(root)
        self._identity: tuple[int, int] | None = None  # device and number of the folder
        self._witness: str | None = None  # the last file written: the same store has it elsewhere

    def has(self, name: str) -> bool:
        """Whether there is a file."""
        with self._open():
            return (self.root / name).is_file()

    def read(self, name: str) -> bytes | None:
        """The content of a file, or None if there is none."""
        with self._open():
            path = self.root / name
            return path.read_bytes() if path.is_file() else None

    def create(self, name: str, content: bytes) -> bool:
        """Write a new file; False, and no change, if there is one."""
        with self._open(), self._writing(name, content) as (temporary, path):
            try:
                os.link(temporary, path)
            except FileExistsError:
                return False
            except OSError:  # a disk without links
                if path.exists():
                    return False
                put_in_place(temporary, path)
        return True

    def write(self, name: str, content: bytes) -> None:
        """Write a file in place of any other."""
        with self._open(), self._writing(name, content) as (temporary, path):
            put_in_place(temporary, path)

    def times(self, folder: str) -> Mapping[str, float]:
        """The names in a folder, and when each was written."""
        times = dict[str, float]()
        with self._open():
            for path in (self.root / folder).glob("*"):
                with contextlib.suppress(FileNotFoundError):  # removed meanwhile
                    times[f"{folder}/{path.name}"] = path.stat().st_mtime
        return times

    @contextlib.contextmanager
    def _writing(self, name: str, content: bytes) -> Iterator[tuple[Path, Path]]:
        """Yield a file with the content, and where it belongs."""
        path = self.root / name
        temporary = self.root / PARTIAL / uuid.uuid4().hex  # other machines write here too
        for folder in (path.parent, temporary.parent):
            folder.mkdir(parents=True, exist_ok=True)
        try:
            with temporary.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            yield temporary, path
            self._witness = name
        finally:
            temporary.unlink(missing_ok=True)

    @contextlib.contextmanager
    def _open(self) -> Iterator[None]:
        """Check that the root is there, as the folder of an unmounted disk is not.

        Another process may make a folder of that name below the mount point. What is sent there
        would be hidden when the disk comes back.
        """
        try:
            root = os.stat(self.root)
            self._check_identity((root.st_dev, root.st_ino))
            yield
        except OSError as error:
            raise StoreLost(
                f"The store {self.title} cannot be used ({error.strerror or error}); is its disk "
                "there, and writable?"
            ) from error

    def _check_identity(self, identity: tuple[int, int]) -> None:
        """Check that the folder is the one that was written to, or holds its files; raise OSError.

        A disk may be mounted again as another device.
        """
        if self._identity not in (None, identity) and self._witness is not None:
            (self.root / self._witness).stat()
        self._identity = identity
