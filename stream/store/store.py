"""What a store can do. It needs no lock and no atomic change, so any object store will do."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from ...errors import StorageError


class StoreLost(StorageError):
    """The store does not answer, or refuses; what was to be stored is not."""


class Store(Protocol):
    """Contents by name, such as `chunks/ab.safetensors`, which many machines read and write.

    Every method raises StoreLost where the store does not answer. `title` shows no password.
    """

    title: str

    def has(self, name: str) -> bool:
        """Whether there is a content; asked of the store itself, not of an earlier listing."""

    def read(self, name: str) -> bytes | None:
        """The content, or None if there is none. It may be torn: only a checksum tells."""

    def create(self, name: str, content: bytes) -> bool:
        """Store a content under a free name; False, and no change, if there is one.

        Where the store has no such request, two writers at once may both get True. So both must
        have the same content, or either must do.
        """

    def write(self, name: str, content: bytes) -> None:
        """Store a content in place of any other."""

    def times(self, folder: str) -> Mapping[str, float]:
        """The names in a folder, and when each was written in seconds since the epoch (0: unknown).

        A listing may lag behind: what it lacks may exist.
        """
