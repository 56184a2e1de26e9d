"""The content of a weights file without its weights: names, dtypes, shapes, metadata.

Four containers are understood: safetensors (one file, or an index of shards), a PyTorch zip (`.pt`,
`.pth`, `.ckpt`), and GGUF (its header only: the host's GGUF loader makes the model).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ...errors import BadInput

ITEM_BYTES = {
    "F64": 8, "F32": 4, "F16": 2, "BF16": 2, "F8_E4M3": 1, "F8_E5M2": 1, "F8_E8M0": 1,
    "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U64": 8, "U32": 4, "U16": 2, "U8": 1, "BOOL": 1,
}  # fmt: skip
"""Bytes of one number, by the dtype names of safetensors; GGUF's block formats are not here."""
OTHER_BITS = {
    "F4": 4, "F6_E2M3": 6, "F6_E3M2": 6, "F8_E4M3FNUZ": 8, "F8_E5M2FNUZ": 8, "C64": 64,
}  # fmt: skip
"""Bits of the numbers that safetensors can hold and no model here uses."""
MAX_TENSORS = 30_000  # a training state of a quantised 14B model has 10,000
MAX_NAME, MAX_DOTS, MAX_AXES = 500, 32, 8


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


def damage_error(path: Path, reason: str) -> BadInput:
    """Make the refusal of a file whose content contradicts itself."""
    return BadInput(f"{path} cannot be read ({reason}); it may be damaged: download it again.")


def check_names(path: Path, names: Collection[str]) -> None:
    """Refuse more tensors, or longer names, than any model has."""
    if len(names) > MAX_TENSORS:
        raise damage_error(path, f"it lists {len(names):,} tensors, more than any model has")
    for name in names:
        if len(name) > MAX_NAME or name.count(".") > MAX_DOTS:
            raise damage_error(path, f"a tensor's name is {len(name):,} letters long")


def check_layout(path: Path, spans: Collection[tuple[int, int]], size: int, align: int = 1) -> None:
    """Refuse tensors that overlap, leave a gap, or do not end where `size` bytes of data end.

    A span is where a tensor begins and ends, each begin rounded up to `align`.
    """
    at = 0
    for begin, end in sorted(spans):
        if begin != -(-at // align) * align:
            problem = "overlap" if begin < at else "leave a gap"
            raise damage_error(
                path, f"its tensors {problem} at byte {min(at, begin):,} of the data"
            )
        at = end
    if at > size:
        raise BadInput(f"{path} is cut short by {at - size:,} bytes; download it again.")
    if size >= -(-at // align) * align + align:
        raise damage_error(path, f"{size - at:,} bytes at its end belong to no tensor")
