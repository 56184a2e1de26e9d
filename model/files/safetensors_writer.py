"""Write a safetensors file tensor by tensor, so that a file of any size takes the memory of one
piece.
"""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import BinaryIO

import torch
from torch import Tensor

from ...errors import StorageError
from .header import ITEM_BYTES, TensorInfo
from .pickle_file import DTYPES

PIECE_VALUES = 8_000_000
TORCH_DTYPES = {name: dtype for dtype, name in DTYPES.items()}


def write(
    path: Path,
    infos: Iterable[TensorInfo],
    tensors: Iterable[tuple[str, Tensor]],
    metadata: Mapping[str, str],
) -> int:
    """Write `tensors`, in the order and with the dtypes of `infos`, and return the file's bytes.

    The file appears under its name only when it is whole.
    """
    partial = path.with_name(f"{path.name}.part")
    try:
        with partial.open("wb") as file:
            planned = list(infos)
            file.write(_header(planned, metadata))
            for info, (name, tensor) in zip(planned, tensors, strict=True):
                if (info.name, info.shape) != (name, tuple(tensor.shape)):
                    raise ValueError(f"expected {info.name} {info.shape}; got {name}")
                _data(file, tensor, TORCH_DTYPES[info.dtype])
            file.flush()
            os.fsync(file.fileno())
            size = file.tell()
        partial.replace(path)
    except OSError as error:
        raise StorageError(f"{path} cannot be written ({error}); free some room there.") from error
    finally:
        partial.unlink(missing_ok=True)
    return size


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


def _data(file: BinaryIO, tensor: Tensor, dtype: torch.dtype) -> None:
    for piece in tensor.reshape(-1).split(PIECE_VALUES):
        plain = piece.to(dtype).contiguous().view(torch.uint8)
        file.write(plain.numpy().data)
