"""The content of a weights file without its weights: names, dtypes, shapes, metadata.

Four containers are understood: safetensors (one file, or an index of shards), a PyTorch zip (`.pt`,
`.pth`), and GGUF (its header only: the host's GGUF loader makes the model).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ...errors import BadInput

ITEM_BYTES = {
    "F64": 8, "F32": 4, "F16": 2, "BF16": 2, "F8_E4M3": 1, "F8_E5M2": 1, "F8_E8M0": 1,
    "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U64": 8, "U32": 4, "U16": 2, "U8": 1, "BOOL": 1,
}  # fmt: skip
"""Bytes of one number, by the dtype names of safetensors; GGUF's block formats are not here."""


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """One tensor: its stored name, dtype (safetensors' or GGUF's word), shape, bytes on disk."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    stored_bytes: int

    @property
    def count(self) -> int:
        """The number of values."""
        return math.prod(self.shape)


@dataclass(frozen=True, slots=True)
class Header:
    """The header of a weights file; `container` is safetensors, pickle or GGUF."""

    path: Path
    container: str
    tensors: Mapping[str, TensorInfo]
    metadata: Mapping[str, str] = field(default_factory=dict)

    @property
    def stored_bytes(self) -> int:
        """Bytes of all tensors on disk."""
        return sum(tensor.stored_bytes for tensor in self.tensors.values())


def main_dtype(tensors: Mapping[str, TensorInfo]) -> str:
    """The dtype that most bytes are stored in."""
    weight: Counter[str] = Counter()
    for tensor in tensors.values():
        weight[tensor.dtype] += tensor.stored_bytes
    return weight.most_common(1)[0][0] if weight else "none"


def damaged(path: Path, reason: str) -> BadInput:
    """Make the refusal of a file whose content contradicts itself."""
    return BadInput(f"{path} cannot be read ({reason}); it may be damaged: download it again.")
