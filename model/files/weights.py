"""Opens a weights file of any container: the header at once, each tensor on demand."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from ...errors import BadInput
from . import gguf_header, pickle_file, safetensors_file
from .header import Header
from .safetensors_file import INDEX_SUFFIX, SafetensorsReader


@dataclass(frozen=True, slots=True)
class Weights:
    """A header, and `read`: stored name to tensor, mapped from disk and not copied."""

    header: Header
    read: Callable[[str], Tensor]


def open_weights(path: Path) -> Weights:
    """Open a file, an index, or the folder of one sharded model."""
    try:
        path = _inside(path) if path.is_dir() else path
        exists, is_file = path.exists(), path.is_file()
    except OSError as error:  # a name that is too long, or a folder that nobody may look into
        raise BadInput(f"{path} cannot be read: {error.strerror}; check the path.") from error
    if not exists:
        raise BadInput(f"{path} is not there; give the path of a weights file.")
    if not is_file:
        raise BadInput(f"{path} is neither a file nor a folder; give the path of a weights file.")
    if not os.access(path, os.R_OK):
        raise BadInput(f"{path} may not be read by this user; change its permissions.")
    if path.name.endswith(INDEX_SUFFIX):
        header, places = safetensors_file.read_index(path)
        return Weights(header, SafetensorsReader(places))
    suffix = path.suffix.lower()  # as the host lists files
    if suffix == ".gguf":
        return Weights(gguf_header.read_header(path), lambda name: _no_gguf(path))
    if suffix in (".pt", ".pth", ".ckpt"):
        header, tensors = pickle_file.open_pickled(path)
        return Weights(header, tensors.__getitem__)
    if suffix not in (".safetensors", ".sft"):
        raise BadInput(
            f"{path} is no weights file that Longtake opens; give .safetensors, its .index.json, "
            ".pt, .pth, .ckpt or .gguf."
        )
    header, places = safetensors_file.read_shards(path)
    return Weights(header, SafetensorsReader(places))


def _inside(folder: Path) -> Path:
    """The one model in a folder: its index, else its first file."""
    files = sorted(folder.glob("*.safetensors"))
    candidates = sorted(folder.glob(f"*{INDEX_SUFFIX}")) or files
    if not candidates:
        raise BadInput(
            f"The folder {folder} holds no .safetensors file; give the path of a weights file."
        )
    if len(candidates) != 1 and "-00001-of-" not in candidates[0].name:
        raise BadInput(
            f"{folder} holds {len(candidates)} models; give the .safetensors file or the "
            ".index.json itself."
        )
    return candidates[0]


def _no_gguf(path: Path) -> Tensor:
    raise BadInput(
        f"{path} is quantised as GGUF; load it with a GGUF loader, and connect its MODEL to Set "
        "Model Family."
    )
