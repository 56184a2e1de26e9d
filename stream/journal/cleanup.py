"""Room for rollouts: what each takes of the disk, and which go when that is too much."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from ...errors import BadInput, StorageError
from .journal import Journal
from .records import SUFFIX, Record, is_newer, records

CHUNK = ".safetensors"


@dataclass(frozen=True, slots=True)
class Usage:
    """Bytes of a journal: of every chunk by its address, and of the files that belong to none."""

    chunks: Mapping[str, int]
    found: tuple[Record, ...]  # the last used first
    has_newer: bool = False  # records of a newer version, which cannot be read

    @property
    def total_bytes(self) -> int:
        """All chunks, each counted once."""
        return sum(self.chunks.values())

    def bytes_of(self, record: Record) -> int:
        """What a rollout's chunks take, shared ones included."""
        return sum(self.chunks.get(key, 0) for key in record.owned)

    def own_bytes(self, record: Record) -> int:
        """What would be free without it."""
        shared = Counter(key for one in self.found for key in one.owned)
        return sum(self.chunks.get(key, 0) for key in record.owned if shared[key] == 1)

    @property
    def unknown(self) -> frozenset[str]:
        """Chunks that no record names: of older versions, or of records that were lost. None where
        a newer version's record may name them.
        """
        if self.has_newer:
            return frozenset()
        return frozenset(self.chunks) - {key for one in self.found for key in one.owned}


@dataclass(frozen=True, slots=True)
class CleanupResult:
    """What `collect` removed, or would remove."""

    removed: tuple[Record, ...]
    chunks: int
    bytes: int
    left_bytes: int
    in_use: tuple[Record, ...]  # that are being made, and so stay


def usage(journal: Journal) -> Usage:
    """What lies in a journal."""
    sizes: dict[str, int] = {}
    for path in journal.folder.glob(f"*{CHUNK}"):
        key = path.name.split(".")[0]  # a chunk, or what else is kept under its address
        with contextlib.suppress(FileNotFoundError):  # removed meanwhile
            sizes[key] = sizes.get(key, 0) + path.stat().st_size
    newer = any(is_newer(path) for path in journal.folder.glob(f"*{SUFFIX}"))
    return Usage(sizes, tuple(records(journal)), newer)


def collect(journal: Journal, budget_bytes: int, *, dry_run: bool = False) -> CleanupResult:
    """Remove chunks that no record names, then the rollouts used longest ago, until all fits.

    A chunk that another rollout shares stays. Rollouts that are being made are not touched.
    """
    now = usage(journal)
    left = now.total_bytes
    kept = list(now.found)
    gone: set[str] = set()
    removed, in_use = list[Record](), list[Record]()
    if left > budget_bytes:
        gone |= now.unknown
        left -= sum(now.chunks[key] for key in now.unknown)
    for record in reversed(now.found):
        if left <= budget_bytes:
            break
        if _is_made(journal, record):
            in_use.append(record)
            continue
        kept.remove(record)
        removed.append(record)
        going = (record.owned & now.chunks.keys()) - {key for one in kept for key in one.owned}
        gone |= going
        left -= sum(now.chunks[key] for key in going)
    freed = sum(now.chunks[key] for key in gone)
    if not dry_run:
        _remove(journal, removed, gone)
    return CleanupResult(tuple(removed), len(gone), freed, left, tuple(in_use))


def _is_made(journal: Journal, record: Record) -> bool:
    try:
        journal.lock(record.lock).release()
    except BadInput:
        return True
    return False


def _remove(journal: Journal, removed: Iterable[Record], keys: Iterable[str]) -> None:
    """Records first: a chunk without a record is found again by whoever needs it."""
    paths: list[Path] = [journal.folder / f"{one.id}{SUFFIX}" for one in removed]
    for key in keys:
        paths += journal.folder.glob(f"{key}.*")
    for path in paths:
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            raise StorageError(
                f"{path} cannot be removed ({error.strerror}); check its permissions."
            ) from error
