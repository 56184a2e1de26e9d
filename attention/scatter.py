"""Adding up where several things go to one place: in the same order, so the same bits, every time.

Sums of floats depend on their order. What torch calls `index_put` adds from several threads at once
on a CPU, and sorts first on a GPU; its `scatter_add` goes along one dimension on a CPU, and adds
atomically on a GPU.
"""

from __future__ import annotations

import torch
from torch import Tensor


def scatter_add_rows(into: Tensor, slots: Tensor, rows: Tensor) -> Tensor:
    """`into` (b, n, c, d) with `rows` (b, n, s, d) added to its `slots` (b, n, s)."""
    if into.device.type == "cpu":
        return into.scatter_add(2, slots.unsqueeze(-1).expand_as(rows), rows)
    return into.index_put((*grid(slots), slots), rows, accumulate=True)


def grid(slots: Tensor) -> tuple[Tensor, Tensor]:
    """Batch and head numbers that go with slots (b, n, s)."""
    b, n = (torch.arange(size, device=slots.device) for size in slots.shape[:2])
    return b.view(-1, 1, 1), n.view(1, -1, 1)
