"""Where a journal's files are: in a folder, or also in a store that other machines use."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from ...errors import StorageError
from ...machine.temporary_files import put_in_place, replacing
from .disk_sync import Force

logger = logging.getLogger("longtake")


class Files(Protocol):
    """The files of a journal, by name. A journal needs no more than this."""

    def has(self, name: str) -> bool:
        """Whether there is a file; only its checksum tells whether it is usable."""

    def read(self, name: str) -> bytes | None:
        """A file's content, or None if there is none; OSError if it cannot be read."""

    def write(self, name: str, content: bytes, to_disk: Force) -> None:
        """Write a file, whole or not at all; OSError if that fails. `to_disk` may sync it later."""

    def set_aside(self, name: str, reason: ValueError) -> bool:
        """Put a damaged file away, with a warning; True if there is another copy to read."""

    def note_growth(self, name: str) -> None:
        """Note that a file of the folder has got more lines."""

    def note_read(self, name: str) -> None:
        """Note that a run has read a whole shot, whose record has this name."""

    def other_records(self) -> Mapping[str, tuple[bytes, float]]:
        """Records of other writers, and when each was written; names begin with the id."""

    def flush(self) -> None:
        """Let other machines have all that was written here, without waiting for it.

        The garbage collector may call this, on any thread.
        """


class LocalFiles:
    """The files of a folder, which only this machine uses."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def has(self, name: str) -> bool:
        """Whether there is a file."""
        return (self.folder / name).is_file()

    def read(self, name: str) -> bytes | None:
        """A file's content, or None if there is none."""
        try:
            return (self.folder / name).read_bytes()
        except FileNotFoundError:
            return None

    def write(self, name: str, content: bytes, to_disk: Force) -> None:
        """Write a file, whole or not at all."""
        with replacing(self.folder / name) as temporary:
            try:
                temporary.write_bytes(content)
            except FileNotFoundError:  # the first file of the folder
                self.folder.mkdir(parents=True, exist_ok=True)
                temporary.write_bytes(content)
        to_disk(self.folder / name)

    def set_aside(self, name: str, reason: ValueError) -> bool:
        """Rename a damaged file, so that it is made again."""
        set_aside(self.folder / name, reason)
        return False

    def note_growth(self, name: str) -> None:
        """Nobody else reads the folder's records."""

    def note_read(self, name: str) -> None:
        """Nobody else reads the folder's records."""

    def other_records(self) -> Mapping[str, tuple[bytes, float]]:
        """The folder's records are all there are."""
        return {}

    def flush(self) -> None:
        """Nobody else waits for the files."""


def paths_in(folder: Path, ending: str) -> list[Path]:
    """The files of a journal's folder with this ending; none if there is no folder.

    StorageError if the folder cannot be listed, which `Path.glob` would pass for an empty one.
    """
    try:
        names = os.listdir(folder)
    except FileNotFoundError:
        return []
    except OSError as error:
        raise unreadable(folder, error) from error
    return [folder / name for name in sorted(names) if name.endswith(ending)]


def unreadable(folder: Path, error: OSError) -> StorageError:
    """The failure to see what a journal's folder holds."""
    return StorageError(
        f"The folder of rollouts {folder} cannot be read ({error.strerror}); check its permissions."
    )


def set_aside(path: Path, reason: ValueError) -> None:
    """Rename a damaged file with a warning, so that it is made again."""
    aside = path.with_suffix(".damaged")
    try:
        put_in_place(path, aside)
    except OSError as error:
        logger.warning(
            "%s is damaged (%s) and cannot be renamed (%s).", path, reason, error.strerror
        )
    else:
        logger.warning(
            "%s is damaged (%s); renamed to %s and made again.", path, reason, aside.name
        )
