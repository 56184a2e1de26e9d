"""Files of leased rows: below OUT/.leases while a row runs, in the row's own folder when it ended.

So a row's folder holds the files of one lease, all of them, or it does not exist.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path, PurePosixPath

from ...errors import StorageError
from ...machine.temporary_files import put_in_place
from ..batch.record import SavedFile

FOLDER = ".leases"


class Staging:
    """The files of leases in force, below the batch's output folder."""

    def __init__(self, out: Path) -> None:
        self._out = out

    def folder(self, lease_id: str) -> Path:
        """Return the folder of a lease, which need not exist."""
        return self._out / FOLDER / lease_id

    def keep_only(self, lease_ids: Iterable[str]) -> None:
        """Remove what ended leases left, and with the last of them the folder of all leases."""
        alive = set(lease_ids)
        for folder in (self._out / FOLDER).glob("*"):
            if folder.name not in alive:
                self.remove(folder.name)
        with suppress(OSError):  # files of leases in force are in it; or there were no leases
            (self._out / FOLDER).rmdir()

    def remove(self, lease_id: str) -> None:
        """Remove the files of a lease that has ended."""
        shutil.rmtree(self.folder(lease_id), ignore_errors=True)

    def missing(self, lease_id: str, files: Iterable[SavedFile]) -> list[str]:
        """Return the paths of `files` that the lease's folder lacks."""
        here = self.folder(lease_id)
        return [file.path for file in files if not (here / file.path).is_file()]

    def publish(self, lease_id: str, name: str, files: Iterable[SavedFile]) -> list[SavedFile]:
        """Move a lease's folder to the row's folder `name`; return the files below OUT."""
        here, target = self.folder(lease_id), self._out / name
        try:
            if target.exists():  # of a lease whose end was not recorded
                shutil.rmtree(target)
            if here.exists():
                put_in_place(here, target)
        except OSError as error:
            raise StorageError(
                f"{target} cannot be written ({error.strerror}); free some space, or close the "
                "program that has it open."
            ) from error
        return [SavedFile(file.role, str(PurePosixPath(name, file.path))) for file in files]

    def withdraw(self, lease_id: str, name: str) -> None:
        """Move the row's folder `name` back to its lease, whose end could not be recorded."""
        with suppress(OSError):  # there were no files; or the worker hears that they are missing
            (self._out / name).replace(self.folder(lease_id))
