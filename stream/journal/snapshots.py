"""Snapshots of the loop's state beside the chunks: KV caches as they were when a chunk was made.

A snapshot only saves time: whatever is missing, damaged or made otherwise is replayed instead.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable
from pathlib import Path

from safetensors import SafetensorError, safe_open

from ...attention.snapshot import Snapshot
from ...errors import StorageError
from ...model.files.safetensors_writer import info_of, is_sound, write
from .journal import Journal

logger = logging.getLogger("longtake")

ENDING = ".state.safetensors"
VERSION = 3


class Snapshots:
    """Those in a journal, each under the address of the chunk it was taken at.

    `made_for` says what else it depends on: the branches that are evaluated, and the dtype.
    """

    def __init__(self, journal: Journal, made_for: str) -> None:
        self.journal, self.made_for = journal, made_for

    def keep(self, key: str, snapshot: Snapshot) -> None:
        """Write it; it is there whole when this returns, or not at all."""
        metadata = {
            "longtake_state": str(VERSION),
            "made_for": self.made_for,
            "facts": json.dumps(snapshot.facts),
        }
        largest_first = sorted(
            snapshot.tensors.items(), key=lambda item: -item[1].element_size()
        )  # so that every tensor begins at a multiple of its own item
        infos = [info_of(name, tensor) for name, tensor in largest_first]
        try:
            write(self._path(key), infos, largest_first, metadata, checksum=True)
        except StorageError as error:
            raise StorageError(
                f"The loop's state cannot be kept ({error}) Set snapshot_chunks to 0 to go on "
                "without."
            ) from error

    def read(self, key: str) -> Snapshot | None:
        """The snapshot under `key`, or None where there is none that can be used."""
        path = self._path(key)
        if not path.is_file():
            return None
        try:
            if not is_sound(path):
                raise ValueError("its checksum does not match")
            with safe_open(str(path), "pt") as file:
                metadata: dict[str, str] = file.metadata() or {}
                if metadata.get("made_for") != self.made_for:
                    return None
                if int(metadata["longtake_state"]) != VERSION:
                    return None
                names = [name for name in file.keys() if name != "sha256"]  # noqa: SIM118
                tensors = {name: file.get_tensor(name) for name in names}
            return Snapshot(tensors, json.loads(metadata["facts"]))
        except (SafetensorError, KeyError, OSError, ValueError) as error:
            logger.warning("The loop's state %s is not used (%s); replaying.", path.name, error)
            return None

    def newest(
        self, key_of: Callable[[int], str], stop: int, start: int = 0
    ) -> tuple[int, Snapshot] | None:
        """The last usable one taken at a chunk from `start` to before `stop`, and its number."""
        there = {path.name.removesuffix(ENDING) for path in self.journal.folder.glob(f"*{ENDING}")}
        for index in range(stop - 1, start - 1, -1) if there else ():
            if key_of(index) in there:
                snapshot = self.read(key_of(index))
                if snapshot is not None:
                    return index, snapshot
        return None

    def drop(self, key: str) -> None:
        """Let one go, if it is there."""
        try:
            os.unlink(self._path(key))
        except FileNotFoundError:
            return
        except OSError as error:
            logger.warning("%s cannot be removed (%s).", self._path(key), error.strerror)

    def _path(self, key: str) -> Path:
        return self.journal.folder / f"{key}{ENDING}"
