"""Sums with a fixed order, so that they give the same bits every time.

Sums of floats depend on their order. On a CPU, torch's `index_put` adds from several threads at
once, while `scatter_add` goes along one dimension. On a GPU, `index_put` sorts first, while
`scatter_add` adds atomically.
"""

from __future__ import annotations

import torch
from torch import Tensor


def scatter_add_rows(into: Tensor, slots: Tensor, rows: Tensor) -> Tensor:
    """Return `into` (b, n, c, d) with `rows` (b, n, s, d) added to its `slots` (b, n, s)."""
    if into.device.type == "cpu":
        return into.scatter_add(2, slots.unsqueeze(-1).expand_as(rows), rows)
    return into.index_put(batch_head_index(slots), rows, accumulate=True)


def batch_head_index(slots: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The index of `slots` (b, n, s) in a tensor (b, n, c, ...)."""
    b, n = (torch.arange(size, device=slots.device) for size in slots.shape[:2])
    return b.view(-1, 1, 1), n.view(1, -1, 1), slots
