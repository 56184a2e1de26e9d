"""Loops over the pieces of a long tensor, shortened where only their memory matters."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor


def piece_starts(total: int, size: int, x: Tensor) -> Iterable[int]:
    """Where each piece of `size` of x's `total` elements starts; the last may be smaller.

    A meta tensor has no content: of its pieces the first and the last two are enough, since those
    between take and free the same memory.
    """
    starts = range(0, total, size)
    if not x.is_meta or len(starts) <= 3:
        return starts
    return starts[0], starts[-2], starts[-1]


def collect_pieces(
    make: Callable[[int], Tensor], total: int, size: int, x: Tensor
) -> Sequence[Tensor]:
    """What `make` returns for the start of each piece of `size` of x's `total` elements.

    The pieces of a meta tensor that need not be made are empty, as large as the one before them.
    """
    made = list[Tensor]()
    for first in piece_starts(total, size, x):
        made += [torch.empty_like(made[-1]) for _ in range(first // size - len(made))]
        made.append(make(first))
    return made
