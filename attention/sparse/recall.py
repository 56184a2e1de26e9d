"""The share of attention on the chosen keys, and the heads that are dense where it is too small.

What a head looks at changes as noise falls. So recall is estimated in every step, and a head that
is below the floor in one of them is dense from then on.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence

import torch
from torch import Tensor

from ..kernels.key_selection import KeySelection
from ..layout import AttentionInputs
from .blocks import QUERY_BLOCK
from .stats import SparseStats

SAMPLED_QUERIES = 16


class DenseHeads:
    """The heads of each batch row and layer that are dense until `clear`."""

    def __init__(self, floor: float, stats: SparseStats) -> None:
        self.floor, self.stats = floor, stats
        self._heads: dict[Hashable, list[int]] = {}
        self._checked: set[tuple[Hashable, Hashable]] = set()

    def clear(self) -> None:
        """Forget all heads: what they read has changed."""
        self._heads.clear()
        self._checked.clear()

    def update(
        self, rows: Sequence[Hashable], step: Hashable, recall: Callable[[], Tensor]
    ) -> list[list[int]]:
        """The dense heads of each of `rows`, checked at the first call in a `step`.

        `recall` returns the recall (b, n) of the same rows' heads.
        """
        new = [i for i, row in enumerate(rows) if (row, step) not in self._checked]
        if new:
            estimate = recall()
            if estimate.is_meta:  # a rehearsal has no numbers: one dense head costs the most
                return [[0] if self.floor > 0 else [], *[[]] * (len(rows) - 1)]
            by_row = estimate.tolist()
            for i in new:
                self._add(rows[i], by_row[i])
                self._checked.add((rows[i], step))
        return [self._heads[row] for row in rows]

    def _add(self, row: Hashable, recall: list[float]) -> None:
        before = self._heads.get(row, [])
        heads = sorted({*before, *_low_recall_heads(recall, self.floor)})
        self.stats.add_recall(recall, len(heads) - len(before))
        self._heads[row] = heads


def sampled_recall(inputs: AttentionInputs, selection: KeySelection) -> Tensor:
    """The share (b, n) of attention that falls on the selected keys.

    Estimated from sampled queries of the last part; `selection` must be for all heads.
    """
    queries, own = inputs.parts[-1]
    q, stop = inputs.q[:, :, queries], inputs.past + own
    at = torch.linspace(0, q.shape[2] - 1, min(SAMPLED_QUERIES, q.shape[2]), device=q.device).long()
    logits = (q[:, :, at] @ inputs.keys[:, :, :stop].transpose(2, 3)).float() * q.shape[-1] ** -0.5
    if inputs.bias is not None:
        logits = logits + inputs.bias[:, :, None, :stop]
    weights = logits.softmax(-1)  # (b, n, queries, t)
    keys = selection.key_numbers(at // QUERY_BLOCK).unflatten(
        0, weights.shape[:2]
    )  # (b, n, queries, m)
    seen = weights.new_zeros(*weights.shape[:3], stop + 1)
    seen.scatter_(3, keys.masked_fill(keys < 0, stop), 1.0)
    recall: Tensor = (weights * seen[..., :stop]).sum(-1).mean(2)
    return recall


def _low_recall_heads(recall: Sequence[float], floor: float) -> list[int]:
    """The heads whose `recall` is below `floor`."""
    return [head for head, value in enumerate(recall) if value < floor]
