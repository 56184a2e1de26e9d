"""Writes a safetensors file tensor by tensor, in the memory of one tensor."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import struct
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import BinaryIO, Protocol

import torch
from torch import Tensor

from ...errors import StorageError
from ...machine.temporary_files import remove_leftovers, replacing
from .header import ITEM_BYTES, TensorInfo
from .pickle_file import DTYPES

PIECE_VALUES = 8_000_000
TORCH_DTYPES = {name: dtype for dtype, name in DTYPES.items()}
CHECKSUM = "sha256"
CHECKSUM_BYTES = 32


class _Writable(Protocol):
    def write(self, piece: bytes, /) -> object: ...


def write(
    path: Path,
    infos: Iterable[TensorInfo],
    tensors: Iterable[tuple[str, Tensor]],
    metadata: Mapping[str, str],
    *,
    checksum: bool = False,
) -> int:
    """Write `tensors` in the order and dtypes of `infos`; returns the file's bytes.

    The file appears under its name only when it is complete. With `checksum` its last tensor is the
    SHA-256 of every byte before it, which `is_sound` checks.
    """
    try:
        remove_leftovers(path.parent)
        with replacing(path) as partial:
            size = _write_all(partial, [*infos], tensors, metadata, checksum=checksum)
    except OSError as error:
        no_room = error.errno in (errno.ENOSPC, errno.EDQUOT)
        remedy = "free some room there" if no_room else "choose another name or folder"
        raise StorageError(
            f"{path} cannot be written ({error.strerror or error}); {remedy}."
        ) from error
    return size


def is_sound(path: Path) -> bool:
    """Whether a file that was written with a checksum still has the same bytes."""
    left, digest = path.stat().st_size - CHECKSUM_BYTES, hashlib.sha256()
    with path.open("rb") as file:
        while left > 0 and (piece := file.read(min(left, PIECE_VALUES))):
            digest.update(piece)
            left -= len(piece)
        return file.read() == digest.digest()


def info_of(name: str, tensor: Tensor) -> TensorInfo:
    """The header entry of a tensor that is written unchanged."""
    stored = tensor.numel() * tensor.element_size()
    return TensorInfo(name, DTYPES[tensor.dtype], tuple(tensor.shape), stored)


def _write_all(
    path: Path,
    planned: Sequence[TensorInfo],
    tensors: Iterable[tuple[str, Tensor]],
    metadata: Mapping[str, str],
    *,
    checksum: bool,
) -> int:
    """Write a file and wait until it is on the disk; returns its bytes."""
    with path.open("wb") as file:
        seal = [TensorInfo(CHECKSUM, "U8", (CHECKSUM_BYTES,), CHECKSUM_BYTES)] * checksum
        hashed = _Hashed(file)
        hashed.write(_header([*planned, *seal], metadata))
        for info, (name, tensor) in zip(planned, tensors, strict=True):
            if (info.name, info.shape) != (name, tuple(tensor.shape)):
                raise ValueError(f"expected {info.name} {info.shape}; got {name}")
            _data(hashed, tensor, TORCH_DTYPES[info.dtype])
        if checksum:
            file.write(hashed.digest.digest())
        file.flush()
        os.fsync(file.fileno())
        return file.tell()


class _Hashed:
    """A file whose content is hashed on its way."""

    def __init__(self, file: BinaryIO) -> None:
        self._file, self.digest = file, hashlib.sha256()

    def write(self, piece: bytes) -> None:
        self.digest.update(piece)
        self._file.write(piece)


def _header(infos: Iterable[TensorInfo], metadata: Mapping[str, str]) -> bytes:
    content: dict[str, object] = {"__metadata__": dict(metadata)}
    at = 0
    for info in infos:
        end = at + info.count * ITEM_BYTES[info.dtype]
        content[info.name] = {
            "dtype": info.dtype, "shape": list(info.shape), "data_offsets": [at, end],
        }  # fmt: skip
        at = end
    text = json.dumps(content).encode()
    text += b" " * (-len(text) % 8)  # data begins at a multiple of 8, as readers expect
    return struct.pack("<Q", len(text)) + text


def _data(file: _Writable, tensor: Tensor, dtype: torch.dtype) -> None:
    for piece in tensor.reshape(-1).split(PIECE_VALUES):
        plain = piece.to(dtype).contiguous().view(torch.uint8)
        file.write(plain.numpy().data)
