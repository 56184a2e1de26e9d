"""Disk usage of rollouts, and the removal of those that were not used for longest."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from ...errors import BadInput, StorageError
from .files import paths_in, unreadable
from .journal import Journal
from .record_lines import ADDRESSES
from .records import SUFFIX, Record, read_records

CHUNK = ".safetensors"


@dataclass(frozen=True, slots=True)
class Usage:
    """The bytes of every chunk in a journal by its address, and the records found there."""

    chunks: Mapping[str, int]
    records: tuple[Record, ...]  # the most recently used first
    unusable: int = 0  # records that cannot be read: damaged, or of another format version

    @property
    def total_bytes(self) -> int:
        """Bytes of all chunks, each counted once."""
        return sum(self.chunks.values())

    def bytes_of(self, record: Record) -> int:
        """Bytes of a rollout's chunks, including chunks that others share."""
        return sum(self.chunks.get(key, 0) for key in record.owned)

    def own_bytes(self, record: Record) -> int:
        """Bytes that removing a rollout would free."""
        shared = Counter(key for other in self.records for key in other.owned)
        return sum(self.chunks.get(key, 0) for key in record.owned if shared[key] == 1)

    @property
    def unknown(self) -> frozenset[str]:
        """Chunks that no record names, because their record was lost.

        Empty if there is a record that cannot be read, which may name them.
        """
        if self.unusable:
            return frozenset()
        return frozenset(self.chunks) - {key for record in self.records for key in record.owned}


@dataclass(frozen=True, slots=True)
class CleanupResult:
    """What `collect` removed, or would remove."""

    removed: tuple[Record, ...]
    chunks: int
    bytes: int
    left_bytes: int
    in_use: tuple[Record, ...]  # in production, and therefore kept


def usage(journal: Journal) -> Usage:
    """The bytes and the records of a journal, as they lie on disk now.

    StorageError if its folder cannot be read.
    """
    sizes: dict[str, int] = {}
    for path in paths_in(journal.folder, CHUNK):
        key = path.name.split(".")[0]  # a chunk, or its snapshot
        if not ADDRESSES.fullmatch(key):
            continue
        try:
            sizes[key] = sizes.get(key, 0) + path.stat().st_size
        except FileNotFoundError:  # removed meanwhile
            continue
        except OSError as error:
            raise unreadable(journal.folder, error) from error
    readable, unusable = read_records(journal)
    return Usage(sizes, tuple(readable), unusable)


def collect(journal: Journal, budget_bytes: int, *, dry_run: bool = False) -> CleanupResult:
    """Remove chunks until the rest fits into the budget.

    Chunks without a record go first, then whole rollouts, the least recently used first. A chunk
    that another rollout shares stays, and so does a rollout that is being made or read. A dry run
    writes nothing, not even a lock.
    """
    if dry_run:
        return _choose(usage(journal), budget_bytes, lambda name: not journal.is_in_use(name))[0]
    with contextlib.ExitStack() as locks:
        result, keys = _choose(
            usage(journal), budget_bytes, lambda name: _lock(journal, name, locks)
        )
        _remove(journal, result.removed, keys)
    return result


def _choose(
    now: Usage, budget_bytes: int, is_unused: Callable[[str], bool]
) -> tuple[CleanupResult, set[str]]:
    """What to remove, and the keys of its chunks; `is_unused` tells by the name of a lock."""
    left = now.total_bytes
    remaining = list(now.records)
    gone: set[str] = set()
    removed, in_use = list[Record](), list[Record]()
    lock_names = set[str]()
    if left > budget_bytes:
        gone |= now.unknown
        left -= sum(now.chunks[key] for key in now.unknown)
    for record in reversed(now.records):
        if left <= budget_bytes:
            break
        if record.lock not in lock_names and not is_unused(record.lock):
            in_use.append(record)
            continue
        lock_names.add(record.lock)
        remaining.remove(record)
        removed.append(record)
        freed_keys = record.owned & now.chunks.keys()
        freed_keys -= {key for other in remaining for key in other.owned}
        gone |= freed_keys
        left -= sum(now.chunks[key] for key in freed_keys)
    freed = sum(now.chunks[key] for key in gone)
    return CleanupResult(tuple(removed), len(gone), freed, left, tuple(in_use)), gone


def _lock(journal: Journal, name: str, locks: contextlib.ExitStack) -> bool:
    """Whether a rollout is neither made nor read; then both locks are held until the removal."""
    with contextlib.ExitStack() as stack:
        try:
            stack.callback(journal.lock(name).delete)
            stack.callback(journal.reading(name, alone=True).delete)
        except BadInput:
            return False
        locks.enter_context(stack.pop_all())
    return True


def _remove(journal: Journal, removed: Iterable[Record], keys: Iterable[str]) -> None:
    """Remove records first: a chunk without a record can still be found by its address."""
    paths: list[Path] = [journal.folder / f"{record.id}{SUFFIX}" for record in removed]
    for key in keys:
        paths += journal.folder.glob(f"{key}.*")
    for path in paths:
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            raise StorageError(
                f"{path} cannot be removed ({error.strerror}); check its permissions."
            ) from error
