"""The journal: every finished chunk goes to disk at once, complete or not at all.

The key of a chunk is a hash over the chain of everything that made it. A fork, a resumed run and a
changed timeline therefore share the chunks of their common beginning. An entry is a safetensors
file whose header holds a format version, the key and a checksum over all of it, so that a chunk
under another chunk's name is noticed.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from ...errors import StorageError
from ...machine.temporary_files import remove_leftovers
from .disk_sync import DiskSync, Force, force
from .files import Files, LocalFiles
from .lock import ProcessLock, is_held

logger = logging.getLogger("longtake")

CHECKSUM, FORMAT, ADDRESS = "sha256", "longtake_chunk", "address"
VERSION = 2
LOCK, READING_LOCK = ".lock", ".reading.lock"
LATER_FIELDS: Mapping[str, Mapping[str, object]] = {"StaggeredSchedule": {"first_frames": 0}}
"""Fields by class that keys leave out at these values, so that keys from before them stay."""
HEADER_LENGTH_BYTES = 8  # safetensors: a little-endian u64, then that many bytes of JSON


def root_key(fields: Mapping[str, object]) -> str:
    """The key before chunk 0: a hash of what holds throughout a rollout.

    `fields` are the model's fingerprint, seed, size, schedule and settings. The length must not be
    among them, so that a longer run continues a shorter one.
    """
    if "length" in fields:
        raise ValueError(f"a rollout's key must not depend on its length; got {fields['length']!r}")
    return _hash({"root": fields})


def next_key(previous: str, inputs: Mapping[str, object]) -> str:
    """The key of the chunk after `previous`, a hash of all `inputs` of that chunk."""
    return _hash({"previous": previous, "in_force": inputs})


def live_key(previous: str) -> str:
    """The key of what came in live for the chunk after `previous`."""
    return _hash({"previous": previous, "live": True})


class Journal:
    """A folder of finished chunks. Any thread may read while another one writes.

    `files` reads and writes chunks and records: by default in the folder alone. Locks and snapshots
    are always in the folder.
    """

    def __init__(self, folder: Path, files: Files | None = None) -> None:
        self.folder = folder
        self.files: Files = files or LocalFiles(folder)

    def __contains__(self, key: str) -> bool:
        """Whether an entry exists; only `read` checks whether it is usable."""
        return self.files.has(self._path(key).name)

    def read(self, key: str) -> dict[str, Tensor] | None:
        """The tensors under `key` on the CPU, or None if there is no usable entry.

        A damaged file is renamed with a warning, so that its chunk is made again. A file of another
        format version stays in place, with a warning.
        """
        entry = self.read_entry(key)
        return None if entry is None else entry[0]

    def read_meta(self, key: str) -> dict[str, str] | None:
        """The `meta` that `write` received with the entry, or None if there is no usable entry."""
        entry = self.read_entry(key)
        return None if entry is None else entry[1]

    def read_entry(self, key: str) -> tuple[dict[str, Tensor], dict[str, str]] | None:
        """The tensors of `read` and the `meta` of `read_meta`, from one look at the file."""
        path = self._path(key)
        try:
            content = self.files.read(path.name)
        except OSError as error:
            raise StorageError(
                f"The journal entry {path} cannot be read ({error.strerror}); "
                "check the disk and its permissions."
            ) from error
        if content is None:
            return None
        try:
            tensors, meta = parse_entry(content, key)
        except ValueError as error:
            return self.read_entry(key) if self.files.set_aside(path.name, error) else None
        version = meta.pop(FORMAT, "unknown")
        if version != str(VERSION):
            logger.warning(
                "The chunk %s has format %s and this Longtake reads format %s; use the Longtake "
                "that wrote it, or let this one make the chunk again.", path, version, VERSION,
            )  # fmt: skip
            return None
        return tensors, meta

    def write(
        self,
        key: str,
        tensors: Mapping[str, Tensor],
        meta: Mapping[str, str],
        to_disk: Force = force,
    ) -> None:
        """Store `tensors` under `key`, completely or not at all.

        `to_disk` may sync the file later. A power cut before that damages the entry, which `read`
        then detects.
        """
        owned = {name: _copy(tensor) for name, tensor in tensors.items()}
        header = {**meta, FORMAT: str(VERSION), ADDRESS: key}
        header[CHECKSUM] = _checksum(owned, header)
        with self._translate_errors():
            self.files.write(self._path(key).name, save(owned, metadata=header), to_disk)

    @contextlib.contextmanager
    def sync_behind(self) -> Iterator[Force]:
        """Sync entries on another thread while the writer continues; all are on disk at the end."""
        sync = DiskSync()
        try:
            yield sync.force
        finally:
            with self._translate_errors():
                sync.close()
            self.files.flush()

    @contextlib.contextmanager
    def _translate_errors(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise StorageError(
                f"The journal could not store a chunk in {self.folder} "
                f"({error.strerror or error}); free some space or choose another folder, then run "
                "again to continue from here."
            ) from error

    def lock(self, rollout_id: str) -> ProcessLock:
        """Lock the rollout against a second run; BadInput names the process that holds the lock.

        Also removes temporary files of processes that were killed while writing.
        """
        lock = self._lock(f"{rollout_id}{LOCK}", f"Rollout {rollout_id}", shared=False)
        remove_leftovers(self.folder)
        return lock

    def reading(self, rollout_id: str, *, alone: bool = False) -> ProcessLock:
        """Keep the rollout's chunks from being removed, which needs this lock `alone`."""
        subject = f"The reading of rollout {rollout_id}"
        return self._lock(f"{rollout_id}{READING_LOCK}", subject, shared=not alone)

    def is_in_use(self, rollout_id: str) -> bool:
        """Whether the rollout is being made or read now; writes nothing."""
        endings = (LOCK, READING_LOCK)
        return any(is_held(self.folder / f"{rollout_id}{ending}") for ending in endings)

    def _lock(self, name: str, subject: str, *, shared: bool) -> ProcessLock:
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StorageError(
                f"The journal folder {self.folder} cannot be created ({error.strerror}); "
                "choose a writable one."
            ) from error
        return ProcessLock(self.folder / name, subject, shared=shared)

    def _path(self, key: str) -> Path:
        return self.folder / f"{key}.safetensors"


def _hash(value: object) -> str:
    text = json.dumps(
        value, sort_keys=True, separators=(",", ":"), allow_nan=False, default=_to_plain
    )
    return hashlib.sha256(text.encode()).hexdigest()


def _copy(tensor: Tensor) -> Tensor:
    """A contiguous copy on the CPU that shares its memory with nothing."""
    return tensor.detach().to("cpu", copy=True).contiguous()


def _to_plain(value: object) -> object:
    """Make JSON of settings (their type and fields) and tensors (a checksum of their bits)."""
    if isinstance(value, Tensor):
        return {"tensor": _checksum({"": _copy(value)}, {})}
    if is_dataclass(value) and not isinstance(value, type):
        name = type(value).__qualname__
        values = {field.name: getattr(value, field.name) for field in fields(value)}
        for field_name, unhashed in LATER_FIELDS.get(name, {}).items():
            if values[field_name] == unhashed:
                del values[field_name]
        return {"is": name, **values}
    raise TypeError(f"a rollout's key cannot be made from a {type(value).__qualname__}")


def _checksum(tensors: Mapping[str, Tensor], meta: Mapping[str, str]) -> str:
    """SHA-256 over names, dtypes, shapes and bits of contiguous CPU tensors, and the metadata."""
    ordered = [(name, tensors[name]) for name in sorted(tensors)]
    described = [(name, str(tensor.dtype), [*tensor.shape]) for name, tensor in ordered]
    digest = hashlib.sha256(json.dumps([described, dict(meta)], sort_keys=True).encode())
    for _, tensor in ordered:
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def parse_entry(content: bytes, key: str) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors and metadata of the entry `key`; ValueError if it is damaged, or another one."""
    try:
        tensors = load(content)
        header_end = HEADER_LENGTH_BYTES + int.from_bytes(content[:HEADER_LENGTH_BYTES], "little")
        meta: dict[str, str] = json.loads(content[HEADER_LENGTH_BYTES:header_end])["__metadata__"]
        expected = meta.pop(CHECKSUM)
    except (SafetensorError, ValueError, KeyError) as error:
        raise ValueError(f"not a whole journal entry: {error}") from error
    if _checksum(tensors, meta) != expected:
        raise ValueError("its checksum does not match")
    address = meta.pop(ADDRESS, key)
    if address != key:
        raise ValueError(f"it is the chunk {address} under another name")
    return tensors, meta
