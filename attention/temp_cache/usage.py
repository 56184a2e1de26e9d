"""How much attention the entries of a merged history get, measured at each commit."""

from __future__ import annotations

import torch

from ..layout import AttentionInputs
from ..storage.shape import CacheShape
from .merge import update_scores
from .policy import TempCache
from .rotated_keys import RotatedKeys

SAMPLED_QUERIES = 16
"""Queries of a commit pass, evenly spaced over its tokens, that are compared with all entries."""
ATTENTION_DECAY = 0.8
"""The weight of earlier measurements after one more commit."""


def planned_bytes(shape: CacheShape, policy: TempCache) -> int:
    """Exact value of `EntryUsage.bytes`."""
    values = shape.layers * _queries(policy) * shape.batch * shape.heads * shape.head_dim
    return values * shape.dtype.itemsize


def _queries(policy: TempCache) -> int:
    """Queries kept of a commit pass: none where attention does not decide what is evicted."""
    return SAMPLED_QUERIES if policy.merges else 0


class EntryUsage:
    """Sampled queries (b, n, q, d) of the last commit pass, for all layers."""

    def __init__(self, shape: CacheShape, policy: TempCache, device: torch.device) -> None:
        self.shape = shape
        size = shape.batch, shape.heads, _queries(policy), shape.head_dim
        self._queries = [
            torch.zeros(size, dtype=shape.dtype, device=device) for _ in range(shape.layers)
        ]

    @property
    def bytes(self) -> int:
        """Bytes of all tensors held."""
        return sum(tensor.nbytes for tensor in self._queries)

    def record_queries(self, layer: int, inputs: AttentionInputs) -> None:
        """Keep a sample of the rotated queries of the pass before a commit."""
        q = inputs.q
        at = torch.linspace(0, q.shape[2] - 1, SAMPLED_QUERIES, device=q.device).long()
        self._queries[layer].copy_(q[:, :, at])

    def update(self, layer: int, keys: RotatedKeys) -> None:
        """Update the retention scores of a layer's entries by the recorded queries."""
        stop = keys.length(layer)
        if stop == 0:
            return
        rotated, _, bias = keys.workspace(layer)
        logits = self._queries[layer].float() @ rotated[:, :, :stop].float().transpose(2, 3)
        logits = logits * self.shape.head_dim**-0.5
        if bias is not None:
            logits = logits + bias[:, :, None, :stop]
        scores = keys.store.own[layer]["retention_score"]
        update_scores(scores, logits.softmax(-1).mean(2), ATTENTION_DECAY)

    def move(self, device: torch.device) -> None:
        """Take all tensors to `device`, bit for bit."""
        self._queries = [tensor.to(device) for tensor in self._queries]
