"""Safetensors: header and tensors of one file, or of the shards that an index names."""

from __future__ import annotations

import json
import re
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

from safetensors import SafetensorError, safe_open
from torch import Tensor

from ...errors import BadInput
from ...units import byte_size
from .content import mistaken
from .header import (
    ITEM_BYTES,
    MAX_AXES,
    OTHER_BITS,
    Header,
    TensorInfo,
    check_layout,
    check_names,
    damage_error,
)

MAX_HEADER_BYTES = 25_000_000  # a 14B model's is 0.2 MB
INDEX_SUFFIX = ".safetensors.index.json"
_SHARD = re.compile(r"(.*-)(\d{5})-of-(\d{5})(\.safetensors)")


def read_header(path: Path) -> Header:
    """The checked header of one file; one that is cut short is refused, naming the missing
    bytes.
    """
    content, start = _header_json(path)
    metadata = content.pop("__metadata__", {})
    check_names(path, content)
    try:
        tensors = {name: _info(path, name, entry) for name, entry in content.items()}
        spans = [(entry["data_offsets"][0], entry["data_offsets"][1]) for entry in content.values()]
        texts = {str(key): str(value) for key, value in metadata.items()}
    except (AttributeError, KeyError, TypeError, ValueError, IndexError) as error:
        raise damage_error(path, "its header does not describe tensors") from error
    check_layout(path, spans, path.stat().st_size - start)
    return Header(path, "safetensors", tensors, texts)


def read_index(path: Path) -> tuple[Header, dict[str, Path]]:
    """The header of all shards of an index together, and the file that each tensor is in."""
    names, shards = _listed(path)
    header, places = _join(path, [_beside(path, shard) for shard in shards], names)
    absent = [name for name in names if name not in places]
    if absent:
        raise damage_error(path, f"{names[absent[0]]} does not hold {absent[0]}")
    return header, places


def _listed(path: Path) -> tuple[dict[str, str], list[str]]:
    """What an index says: the shard of each tensor, and all shards."""
    try:
        if path.stat().st_size > MAX_HEADER_BYTES:
            raise ValueError(path)
        names = json.loads(path.read_text(encoding="utf-8"))["weight_map"]
        return names, sorted({str(shard) for shard in names.values()})
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise damage_error(path, "it is no index of safetensors shards") from error


def read_shards(path: Path) -> tuple[Header, dict[str, Path]]:
    """The header of one file and where its tensors are, with all shards if it is one of them."""
    names = _shards(path.name)
    if not names:
        header = read_header(path)
        return header, dict.fromkeys(header.tensors, path)
    return _join(path, [_beside(path, name) for name in names])


def _shards(name: str) -> list[str]:
    """The names of all shards of which a file is one; none where it is whole."""
    shard = _SHARD.fullmatch(name)
    if shard is None:
        return []
    return [f"{shard[1]}{i:05}-of-{shard[3]}{shard[4]}" for i in range(1, int(shard[3]) + 1)]


def files_of(path: Path) -> list[Path]:
    """The file itself, or all that are read with it: the shards of an index, or those beside it.

    Of an index that cannot be read it is the index alone.
    """
    if not path.name.endswith(INDEX_SUFFIX):
        return [path.with_name(name) for name in _shards(path.name)] or [path]
    try:
        return [path, *(path.with_name(shard) for shard in _listed(path)[1])]
    except BadInput:  # which the loader says itself
        return [path]


class SafetensorsReader:
    """Tensors by stored name, mapped from disk when asked for."""

    def __init__(self, places: Mapping[str, Path]) -> None:
        self._places = places
        self._open: dict[Path, Any] = {}

    def __call__(self, name: str) -> Tensor:
        """One tensor as stored."""
        path = self._places[name]
        try:
            if path not in self._open:
                self._open[path] = open_mapped(path)
            tensor: Tensor = self._open[path].get_tensor(name)
        except (SafetensorError, OSError, AttributeError) as error:
            raise damage_error(path, str(error)) from error
        return tensor


def open_mapped(path: Path) -> Any:
    """The file for reading tensors on demand; BadInput if the system has no room to map it."""
    try:
        return safe_open(path, "pt")
    except RuntimeError as error:
        if "mmap" not in str(error):
            raise
        raise BadInput(
            f"{path} ({byte_size(path.stat().st_size)}) is larger than this system can map into "
            "memory; use smaller weights such as fp8, or give the system more swap space."
        ) from error


def _header_json(path: Path) -> tuple[dict[str, Any], int]:
    """The header as JSON, and where the data begins."""
    try:
        with path.open("rb") as file:
            field = file.read(8)
            size = struct.unpack("<Q", field)[0] if len(field) == 8 else 0
            if not 2 <= size <= MAX_HEADER_BYTES:
                raise mistaken(path, "a safetensors file", "give the unmodified .safetensors file")
            text = file.read(size)
    except OSError as error:
        raise BadInput(f"{path} cannot be read: {error.strerror}; check the path.") from error
    try:
        content = json.loads(text, object_pairs_hook=_unique)
    except (ValueError, RecursionError) as error:
        raise damage_error(path, "it has no readable safetensors header") from error
    if not isinstance(content, dict):
        raise damage_error(path, "it has no readable safetensors header")
    return content, 8 + size


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object whose names are all different."""
    content = dict(pairs)
    if len(content) != len(pairs):
        raise ValueError("a name occurs twice")
    return content


def _info(path: Path, name: str, entry: Mapping[str, Any]) -> TensorInfo:
    shape, (begin, end), dtype = tuple(entry["shape"]), entry["data_offsets"], entry["dtype"]
    if not all(type(number) is int for number in (*shape, begin, end)) or len(shape) > MAX_AXES:
        raise damage_error(path, f"{name} has a shape or a place that is no list of whole numbers")
    info = TensorInfo(name, str(dtype), shape, end - begin)
    if begin < 0 or any(n < 0 for n in shape) or info.stored_bytes < 0:
        raise damage_error(path, f"{name} has a negative size")
    bits = 8 * ITEM_BYTES.get(info.dtype, 0) or OTHER_BITS.get(info.dtype)
    if bits is None:
        raise damage_error(path, f"{name} has the unknown number format {info.dtype[:20]!r}")
    if info.count * bits != 8 * info.stored_bytes:
        raise damage_error(
            path, f"{name} holds {info.stored_bytes} bytes, its shape {shape} does not"
        )
    return info


def _join(
    path: Path, shards: Sequence[Path], index: Mapping[str, str] = MappingProxyType({})
) -> tuple[Header, dict[str, Path]]:
    """The shards' headers together; the index, if any, says which shard a tensor is taken from."""
    tensors: dict[str, TensorInfo] = {}
    places: dict[str, Path] = {}
    metadata: dict[str, str] = {}
    for shard in shards:
        header = read_header(shard)
        metadata.update(header.metadata)
        for name, info in header.tensors.items():
            if index.get(name, shard.name) != shard.name:
                continue
            if name in places:
                both = f"{places[name].name} and {shard.name}"
                raise damage_error(path, f"{both} both hold {name}, and no index says which counts")
            tensors[name], places[name] = info, shard
    return Header(path, "safetensors", tensors, metadata), places


def _beside(path: Path, name: str) -> Path:
    """A shard in the folder of `path`; an index may not lead elsewhere."""
    if Path(name).name != name:
        raise BadInput(f"{path} names the shard {name!r} outside its folder; use its own files.")
    shard = path.parent / name
    if not shard.is_file():
        raise BadInput(f"{path} belongs with {name}, which is not beside it; download all shards.")
    return shard
