"""Frames of a KV cache that nobody has written hold NaN, so that a test sees whoever reads them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from longtake.attention.storage import dense, packed, placement
from longtake.attention.storage.placement import Part, Parts
from longtake.attention.storage.shape import CacheShape


def fill_unwritten_frames() -> None:
    """From now on every KV cache begins with frames of NaN; whole numbers are large."""
    for module in (dense, packed):
        setattr(module, dense.empty_frames.__name__, _nan_frames)
    setattr(placement, placement.empty_parts.__name__, _nan_parts)


def _nan_frames(shape: CacheShape, frames: int, device: torch.device) -> Tensor:
    size = shape.batch, frames * shape.frame_tokens, shape.heads, shape.head_dim
    return _fill(torch.empty(size, dtype=shape.dtype, device=device))


def _nan_parts(size: Sequence[Part], leading: tuple[int, int], device: torch.device) -> Parts:
    return tuple(
        _fill(torch.empty(*leading, *part.size, dtype=part.dtype, device=device)) for part in size
    )


def _fill(memory: Tensor) -> Tensor:
    if memory.is_meta:  # a rehearsal, which counts each call
        return memory
    return memory.fill_(torch.nan if memory.is_floating_point() else torch.iinfo(memory.dtype).max)
