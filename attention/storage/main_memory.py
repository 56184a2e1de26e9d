"""Pinned main memory for coded frames, without the room that torch's allocator adds.

The allocator takes the next power of two for every tensor (`CachingHostAllocator`, torch 2.13), up
to twice what is asked for. So layers share blocks that are almost as large as a power of two.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from .codec import Part

ALIGNED_BYTES = 256


def pinned_parts(
    layers: int, size: Sequence[Part], leading: tuple[int, int]
) -> list[tuple[Tensor, ...]]:
    """Memory for coded frames of all `layers`, with anything in it."""
    counts = [math.prod((*leading, *part.size)) * part.dtype.itemsize for part in size]
    rooms = [-(-max(1, count) // ALIGNED_BYTES) * ALIGNED_BYTES for count in counts]
    memory = list[tuple[Tensor, ...]]()
    for together in divide(layers, sum(rooms)):
        block = torch.empty(together, sum(rooms), dtype=torch.uint8).pin_memory()
        memory += (
            tuple(
                room[:count].view(part.dtype).view(*leading, *part.size)
                for room, count, part in zip(layer.split(rooms), counts, size, strict=True)
            )
            for layer in block
        )
    return memory


def divide(layers: int, layer_bytes: int) -> list[int]:
    """How many layers share each block, so that all blocks together are smallest.

    Blocks of 30 layers or more take at most an eighth more than the layers.
    """
    best: list[tuple[int, list[int]]] = [(0, [])]
    for count in range(1, layers + 1):
        choices = (
            (fewer + block_bytes((count - done) * layer_bytes), [*counts, count - done])
            for done, (fewer, counts) in enumerate(best)
        )
        best.append(min(choices, key=lambda choice: choice[0]))
    return best[layers][1]


def block_bytes(size: int) -> int:
    """What the allocator takes for a block of that size, which is not 0: a power of two."""
    return 1 << (size - 1).bit_length()
