"""GGUF: the header of a quantised file (ggml `docs/gguf.md`, versions 2 and 3)."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import BinaryIO

from ...errors import BadInput
from .header import Header, TensorInfo, damaged

MAGIC = b"GGUF"
MAX_ENTRIES = 100_000
MAX_TEXT = 1_000_000
SCALARS = {
    0: "B",
    1: "b",
    2: "H",
    3: "h",
    4: "I",
    5: "i",
    6: "f",
    7: "?",
    10: "Q",
    11: "q",
    12: "d",
}
TEXT, ARRAY = 8, 9
BLOCKS = {  # type id: name, numbers per block, bytes per block (ggml.h)
    0: ("F32", 1, 4), 1: ("F16", 1, 2), 2: ("Q4_0", 32, 18), 3: ("Q4_1", 32, 20),
    6: ("Q5_0", 32, 22), 7: ("Q5_1", 32, 24), 8: ("Q8_0", 32, 34), 10: ("Q2_K", 256, 84),
    11: ("Q3_K", 256, 110), 12: ("Q4_K", 256, 144), 13: ("Q5_K", 256, 176), 14: ("Q6_K", 256, 210),
    20: ("IQ4_NL", 32, 18), 23: ("IQ4_XS", 256, 136), 24: ("I8", 1, 1), 26: ("I32", 1, 4),
    28: ("F64", 1, 8), 30: ("BF16", 1, 2),
}  # fmt: skip


def read_header(path: Path) -> Header:
    """Names, quantisations and logical shapes (PyTorch's axis order) of a GGUF file."""
    try:
        with path.open("rb") as file:
            if file.read(4) != MAGIC:
                raise BadInput(f"{path} is not a GGUF file; give the unmodified .gguf file.")
            version, tensors, entries = _numbers(file, "<IQQ")
            if version not in (2, 3) or max(tensors, entries) > MAX_ENTRIES:
                raise damaged(path, f"its GGUF version {version} is unknown or its header endless")
            found = [_entry(file) for _ in range(entries)]
            infos = [_tensor(file) for _ in range(tensors)]
    except (OSError, struct.error, ValueError, OverflowError, RecursionError) as error:
        raise damaged(path, "its GGUF header is cut short or wrong") from error
    metadata = {key: value for key, value in found if value is not None}
    return Header(path, "GGUF", {info.name: _original(info, metadata) for info in infos}, metadata)


def _original(info: TensorInfo, metadata: dict[str, str]) -> TensorInfo:
    """The tensor with the shape it had: ggml knows four axes, patch embeddings have five."""
    shape = metadata.get(f"comfy.gguf.orig_shape.{info.name}")
    if shape is None:
        return info
    return TensorInfo(
        info.name, info.dtype, tuple(int(n) for n in shape.split()), info.stored_bytes
    )


def _numbers(file: BinaryIO, form: str) -> tuple[int, ...]:
    return struct.unpack(form, file.read(struct.calcsize(form)))


def _text(file: BinaryIO) -> str:
    (size,) = _numbers(file, "<Q")
    if size > MAX_TEXT:
        raise ValueError(size)
    return file.read(size).decode("utf-8", "replace")


def _entry(file: BinaryIO) -> tuple[str, str | None]:
    """One metadata entry; arrays of numbers become words, other arrays are passed over."""
    key = _text(file)
    (kind,) = _numbers(file, "<I")
    return key, _value(file, kind)


def _value(file: BinaryIO, kind: int) -> str | None:
    if kind == TEXT:
        return _text(file)
    if kind == ARRAY:
        inner, count = _numbers(file, "<IQ")
        if count > MAX_TEXT:
            raise ValueError(count)
        values = [_value(file, inner) for _ in range(count)]
        return " ".join(str(value) for value in values)
    if kind not in SCALARS:
        raise ValueError(kind)
    return str(_numbers(file, f"<{SCALARS[kind]}")[0])


def _tensor(file: BinaryIO) -> TensorInfo:
    name = _text(file)
    (axes,) = _numbers(file, "<I")
    if axes > 8:
        raise ValueError(axes)
    shape = tuple(reversed(_numbers(file, f"<{axes}Q")))  # ggml's first axis is the fastest
    kind, _offset = _numbers(file, "<IQ")
    dtype, numbers, size = BLOCKS.get(kind, (f"ggml type {kind}", 1, 1))
    info = TensorInfo(name, dtype, shape, 0)
    return TensorInfo(name, dtype, shape, info.count // numbers * size)
