"""Tells a full disk from a row's own failure."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from ....errors import StorageError

ROOM_BYTES = 1 << 20  # less holds no clip


def check_room(folder: Path) -> None:
    """Raise StorageError where the disk of `folder` takes no more files.

    Every row would fail on such a disk, each within a second. Without its files, a row that only
    wanted more than there is leaves room behind.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as probe:
            probe.write(bytes(ROOM_BYTES))
            probe.flush()
            os.fsync(probe.fileno())
    except OSError as error:
        raise StorageError(
            f"This worker's disk takes no files at {folder} ({error.strerror}); free some space, "
            "then start the worker again."
        ) from error
