"""A journal whose files are in a store, with a folder of this machine as their cache.

Chunks are in the store under their content address, so it does not matter who writes one or how
often: the first sound one stays. Each writer has records of its own, which readers merge.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from functools import partial
from pathlib import Path

from ..store.sharing import Outgoing, Sharing
from .disk_sync import Force
from .files import LocalFiles
from .journal import Journal, parse_entry
from .records import SUFFIX

logger = logging.getLogger("longtake")

CHUNKS, RECORDS = "chunks", "records"


def open_journal(folder: Path, sharing: Sharing | None) -> Journal:
    """The journal of a folder, shared with other machines through a store if there is one."""
    return Journal(folder, SharedFiles(LocalFiles(folder), sharing) if sharing else None)


class SharedFiles:
    """Reads the folder first, then the store; writes both."""

    def __init__(self, local: LocalFiles, sharing: Sharing) -> None:
        self.local, self.sharing = local, sharing

    def has(self, name: str) -> bool:
        """Whether the folder or the store has a chunk."""
        return self.local.has(name) or self.sharing.connection.has(f"{CHUNKS}/{name}")

    def read(self, name: str) -> bytes | None:
        """A chunk from the folder, which the store then gets too, or else from the store."""
        content = self.local.read(name)
        if content is None:
            return self._fetch(name)
        if f"{CHUNKS}/{name}" not in self.sharing.connection.known:
            self._send(name, is_old=True)
        return content

    def write(self, name: str, content: bytes, to_disk: Force) -> None:
        """Write a chunk to the folder, then to the store behind the caller's back."""
        self.local.write(name, content, to_disk)
        self._send(name)

    def set_aside(self, name: str, reason: ValueError) -> bool:
        """Rename the folder's copy; True if the store may have a better one."""
        self.local.set_aside(name, reason)
        return not self.local.has(name) and self.has(name)

    def note_growth(self, name: str) -> None:
        """Send a record that has got more lines, as this writer's own."""
        stem = name.removesuffix(SUFFIX)
        own = f"{RECORDS}/{stem}.{self.sharing.writer}{SUFFIX}"
        self.sharing.send(Outgoing(own, self.local.folder / name))

    def note_read(self, name: str) -> None:
        """Send a record that the store lacks, as after a run that did not reach it.

        Such a run's writer has gone, and a run that makes no chunk adds no line.
        """
        stem = name.removesuffix(SUFFIX)
        try:
            content = self.local.read(name) or b""
        except OSError as error:  # `longtake rollouts list` warns of it
            logger.debug("The record %s is not sent (%s).", name, error.strerror)
            return
        sent = self.sharing.connection.read_folder(
            RECORDS, lambda place: place.startswith(f"{RECORDS}/{stem}.")
        )
        known = {line for record, _ in sent.values() for line in record.split(b"\n")}
        if not known.issuperset(content.split(b"\n")):
            self.note_growth(name)

    def other_records(self) -> Mapping[str, tuple[bytes, float]]:
        """The records in the store, but for this writer's own."""
        own = f".{self.sharing.writer}{SUFFIX}"
        records = self.sharing.connection.read_folder(
            RECORDS, lambda name: name.endswith(SUFFIX) and not name.endswith(own)
        )
        return {name.removeprefix(f"{RECORDS}/"): record for name, record in records.items()}

    def flush(self) -> None:
        """Send all that waits for more."""
        self.sharing.flush()

    def _send(self, name: str, *, is_old: bool = False) -> None:
        check = partial(parse_entry, key=name.partition(".")[0])
        path = self.local.folder / name
        self.sharing.connection.known.add(f"{CHUNKS}/{name}")
        self.sharing.send(Outgoing(f"{CHUNKS}/{name}", path, check, is_old=is_old))

    def _fetch(self, name: str) -> bytes | None:
        """A chunk of the store, which must be sound; the folder keeps a copy."""
        connection, place = self.sharing.connection, f"{CHUNKS}/{name}"
        content = connection.read(place)
        if content is None:
            connection.known.discard(place)
            return None
        try:
            parse_entry(content, name.partition(".")[0])
        except ValueError as reason:
            connection.damaged.add(place)
            connection.known.discard(place)
            logger.warning(
                "The chunk %s in the store %s is damaged (%s); it is made and stored again.",
                name, connection.store.title, reason,
            )  # fmt: skip
            return None
        connection.known.add(place)
        self._cache(name, content)
        return content

    def _cache(self, name: str, content: bytes) -> None:
        try:
            self.local.write(name, content, lambda _: None)  # a power cut costs only the copy
        except OSError as error:  # such as a full disk: the shot can be watched all the same
            logger.warning(
                "%s cannot keep a copy of a chunk of the store (%s).",
                self.local.folder, error.strerror,
            )  # fmt: skip
