"""The folder that was meant, where the one that was named has no rollouts or is no store."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

from ...errors import BadInput, StorageError
from ...stream.store.address import Address
from ...stream.store.opening import MARK

ROLLOUTS = Path("longtake") / ".rollouts"
LEVELS = 3  # from a folder in the journal to the journal, to `longtake`, to the output folder


def check_output(out: Path) -> None:
    """Raise BadInput where `out` has no rollouts, and a folder above or below has some."""

    def has_rollouts(folder: Path) -> bool:
        return os.path.isdir(folder / ROLLOUTS)

    if not has_rollouts(out) and (right := _first_around(out, has_rollouts)):
        raise BadInput(f"There are no rollouts in {out}; give --out {right}, which has some.")


def check_store(url: str) -> None:
    """Raise BadInput where a folder is no store, and one above or below is.

    To open a store in the wrong folder would make one there.
    """
    folder = _store_folder(url)

    def is_store(folder: Path) -> bool:
        return os.path.isfile(folder / MARK)

    if folder is None or is_store(folder):
        return
    if right := _first_around(folder, is_store):
        raise BadInput(f"There is no store in {folder}; give --store {right}, which is one.")


def _store_folder(url: str) -> Path | None:
    """Return the folder if it exists; opening the store says what is wrong with any other."""
    try:
        folder = Address(url).folder
    except RuntimeError:  # of pathlib: no such user
        return None
    return folder if folder is not None and os.path.isdir(folder) else None


def _first_around(named: Path, is_right: Callable[[Path], bool]) -> Path | None:
    return next((folder for folder in _around(named) if is_right(folder)), None)


def _around(named: Path) -> Iterator[Path]:
    """Yield the folders above, the nearest first, then those directly below in order."""
    yield from list(named.absolute().parents)[:LEVELS]
    try:
        names = sorted(os.listdir(named))
    except OSError as error:
        raise StorageError(
            f"The folder {named} cannot be read ({error.strerror}); check its permissions."
        ) from error
    yield from (named / name for name in names)
