"""Loops over the pieces of a long tensor, shortened where only their memory matters."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import groupby

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
    make: Callable[[int], Tensor], total: int, size: int, x: Tensor, *, dim: int
) -> list[Tensor]:
    """What `make` returns for the start of each piece of `size` of x's `total` elements.

    For a meta tensor, one empty piece, longer in `dim`, stands for those that are not made.
    """
    parts, count = list[Tensor](), 0
    for first in piece_starts(total, size, x):
        left_out = first // size - count
        if left_out:
            shape = [*parts[0].shape]
            shape[dim] *= left_out
            parts.append(parts[0].new_empty(shape))
        parts.append(make(first))
        count = first // size + 1
    return parts


def runs(numbers: Sequence[int]) -> list[slice]:
    """Neighbouring rising `numbers` together, each run as the slice from its first to its last."""
    by_offset = groupby(enumerate(numbers), lambda pair: pair[1] - pair[0])
    together = ([number for _, number in pairs] for _, pairs in by_offset)
    return [slice(run[0], run[-1] + 1) for run in together]
