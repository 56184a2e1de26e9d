"""GGUF: the header of a quantised file (ggml `docs/gguf.md`, versions 2 and 3)."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

from ...errors import BadInput
from .content import mistaken
from .header import (
    MAX_AXES,
    MAX_TENSORS,
    Header,
    TensorInfo,
    check_layout,
    check_names,
    damage_error,
)

MAGIC = b"GGUF"
MAX_ENTRIES = MAX_TENSORS
MAX_HEADER_BYTES = 25_000_000
ALIGNMENT, DEFAULT_ALIGNMENT, MAX_ALIGNMENT = "general.alignment", 32, 1 << 20
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
    28: ("F64", 1, 8), 30: ("BF16", 1, 2), 9: ("Q8_1", 32, 36), 15: ("Q8_K", 256, 292),
    16: ("IQ2_XXS", 256, 66), 17: ("IQ2_XS", 256, 74), 18: ("IQ3_XXS", 256, 98),
    19: ("IQ1_S", 256, 50), 21: ("IQ3_S", 256, 110), 22: ("IQ2_S", 256, 82), 25: ("I16", 1, 2),
    27: ("I64", 1, 8), 29: ("IQ1_M", 256, 56), 34: ("TQ1_0", 256, 54), 35: ("TQ2_0", 256, 66),
    39: ("MXFP4", 32, 17),
}  # fmt: skip


def read_header(path: Path) -> Header:
    """Names, quantisations and logical shapes (PyTorch's axis order) of a GGUF file."""
    try:
        with path.open("rb") as file:
            if file.read(4) != MAGIC:
                raise mistaken(path, "a GGUF file", "give the unmodified .gguf file")
            version, tensors, entries = _numbers(file, "<IQQ")
            if version not in (2, 3) or max(tensors, entries) > MAX_ENTRIES:
                raise damage_error(
                    path, f"its GGUF version {version} is unknown or its header endless"
                )
            pairs = [_entry(file) for _ in range(entries)]
            places = [_tensor(path, file) for _ in range(tensors)]
            metadata = {key: value for key, value in pairs if value is not None}
            _check_data(path, metadata, places, file.tell())
    except (OSError, struct.error, ValueError, OverflowError, RecursionError) as error:
        raise damage_error(path, "its GGUF header is cut short or wrong") from error
    infos = {info.name: _original(path, info, metadata) for info, _ in places}
    check_names(path, [info.name for info, _ in places])
    return Header(path, "GGUF", infos, metadata)


def _check_data(
    path: Path, metadata: Mapping[str, str], places: list[tuple[TensorInfo, int]], header_end: int
) -> None:
    """Refuse a file whose tensors are not all there, each where the header says."""
    align = int(metadata.get(ALIGNMENT, DEFAULT_ALIGNMENT))
    if not 0 < align <= MAX_ALIGNMENT:
        raise ValueError(align)
    if len({info.name for info, _ in places}) < len(places):
        raise ValueError("a name occurs twice")
    start = -(-header_end // align) * align
    spans = [(offset, offset + info.stored_bytes) for info, offset in places]
    check_layout(path, spans, path.stat().st_size - start, align)


def _original(path: Path, info: TensorInfo, metadata: Mapping[str, str]) -> TensorInfo:
    """The tensor with the shape it had: ggml knows four axes, patch embeddings have five."""
    text = metadata.get(f"comfy.gguf.orig_shape.{info.name}")
    if text is None:
        return info
    numbers = text.split()
    if len(numbers) <= MAX_AXES and all(n.isdecimal() and len(n) < 20 for n in numbers):
        original = replace(info, shape=tuple(int(number) for number in numbers))
        if original.count == info.count:
            return original
    raise damage_error(path, f"the original shape of {info.name} is {text[:40]!r}")


def _numbers(file: BinaryIO, form: str) -> tuple[int, ...]:
    if file.tell() > MAX_HEADER_BYTES:
        raise ValueError(form)
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


def _tensor(path: Path, file: BinaryIO) -> tuple[TensorInfo, int]:
    """One tensor, and where it begins within the data."""
    name = _text(file)
    (axes,) = _numbers(file, "<I")
    if axes > MAX_AXES:
        raise ValueError(axes)
    shape = tuple(reversed(_numbers(file, f"<{axes}Q")))  # ggml's first axis is the fastest
    kind, offset = _numbers(file, "<IQ")
    if kind not in BLOCKS:
        raise BadInput(
            f"{path} stores {name} as ggml type {kind}, which Longtake does not know; use a file "
            "of a known type such as Q8_0 or Q4_K."
        )
    dtype, numbers, size = BLOCKS[kind]
    count = TensorInfo(name, dtype, shape, 0).count
    if count % numbers:
        raise ValueError(count)
    return TensorInfo(name, dtype, shape, count // numbers * size), offset
