"""Snapshots of the loop's state beside the chunks: the KV caches after a chunk was made.

A snapshot only saves time. If it is missing, damaged or of another format, a replay replaces it.
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

ENDING, FORMAT = ".state.safetensors", "longtake_state"
VERSION = 6


class Snapshots:
    """The snapshots of a journal, each under the address of the chunk it was taken at.

    `made_for` identifies what else a snapshot depends on: the evaluated branches and the dtype.
    `latest` is the address of the one that the next one replaces.
    """

    def __init__(self, journal: Journal, made_for: str) -> None:
        self.journal, self.made_for = journal, made_for
        self.latest: str | None = None

    def keep(self, key: str, snapshot: Snapshot) -> None:
        """Write a snapshot, completely or not at all; then delete the one before it."""
        metadata = {
            FORMAT: str(VERSION),
            "address": key,
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
                f"The loop's state cannot be stored ({error}) Set snapshot_chunks to 0 to continue "
                "without snapshots."
            ) from error
        if self.latest not in (None, key):
            self.drop(str(self.latest))
        self.latest = key

    def read(self, key: str) -> Snapshot | None:
        """The snapshot under `key`, or None if there is no usable one.

        Its tensors are copies: Windows deletes no file that a tensor maps.
        """
        path = self._path(key)
        if not path.is_file():
            return None
        try:
            if not is_sound(path):
                raise ValueError("its checksum does not match")
            with safe_open(str(path), "pt") as file:
                metadata: dict[str, str] = file.metadata() or {}
                version = metadata.get(FORMAT, "unknown")
                if version != str(VERSION):
                    logger.warning(
                        "The loop's state %s has format %s and this Longtake reads format %s; use "
                        "the Longtake that wrote it, or let this one replay the shot.",
                        path.name, version, VERSION,
                    )  # fmt: skip
                    return None
                if metadata.get("address") != key:
                    raise ValueError("it is another chunk's state")
                if metadata.get("made_for") != self.made_for:
                    return None
                names = [name for name in file.keys() if name != "sha256"]  # noqa: SIM118
                tensors = {name: file.get_tensor(name).clone() for name in names}
            return Snapshot(tensors, json.loads(metadata["facts"]))
        except (SafetensorError, KeyError, OSError, ValueError) as error:
            logger.warning("The loop's state %s is not used (%s); replaying.", path.name, error)
            return None

    def newest(
        self, key_of: Callable[[int], str], stop: int, start: int = 0
    ) -> tuple[int, Snapshot] | None:
        """The last usable snapshot of chunks [start, stop), and the number of its chunk.

        The next snapshot that is kept replaces this one.
        """
        stored = {path.name.removesuffix(ENDING) for path in self.journal.folder.glob(f"*{ENDING}")}
        for index in range(stop - 1, start - 1, -1) if stored else ():
            if key_of(index) in stored:
                snapshot = self.read(key_of(index))
                if snapshot is not None:
                    self.latest = key_of(index)
                    return index, snapshot
        return None

    def drop(self, key: str) -> None:
        """Delete the snapshot under `key`, if there is one."""
        try:
            os.unlink(self._path(key))
        except FileNotFoundError:
            return
        except OSError as error:
            logger.warning("%s cannot be removed (%s).", self._path(key), error.strerror)

    def _path(self, key: str) -> Path:
        return self.journal.folder / f"{key}{ENDING}"
