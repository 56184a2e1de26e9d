"""Views of a KV cache: attention over some of the history, and several views in one pass."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from .dense import attend_in_parts, parts
from .history_cache import HistoryCache
from .rope import rotate


class PartOfHistory:
    """Self-attention of the active latent frames over chosen `slots` of the history and themselves.

    Positions are those of the whole history, so the active frames' own do not depend on the view
    and left-out frames leave gaps. `rows` picks cache rows, `at` is the active frames' position.
    `visible` is as for `KVCache.attention`. Valid until the next commit.
    """

    def __init__(
        self,
        cache: HistoryCache,
        visible: Sequence[int],
        rows: slice,
        slots: Sequence[int],
        at: int,
    ) -> None:
        self.cache, self.rows = cache, rows
        tokens, positions = cache.shape.frame_tokens, cache.positions
        self._now = cache.rotation(range(at, at + len(visible)))
        self._parts = parts(visible, len(slots), tokens)
        self._past = cache.rotation([positions[slot] for slot in slots]) if slots else None
        first = torch.tensor([*slots], dtype=torch.long, device=cache.device) * tokens
        self._tokens = (first[:, None] + torch.arange(tokens, device=cache.device)).flatten()

    def __call__(self, layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Attend un-rotated q, k, v (b, s, n, d) of the active frames."""
        keys, values = rotate(k, self._now), v
        if self._past is not None:
            past = [kept[self.rows][:, self._tokens] for kept in self.cache.history(layer)]
            keys = torch.cat([rotate(past[0], self._past), keys], 1)
            values = torch.cat([past[1], values], 1)
        return attend_in_parts(rotate(q, self._now), keys, values, self._parts)


SelfAttention = Callable[[int, Tensor, Tensor, Tensor], Tensor]


class SideBySide:
    """Several attentions in one pass: each takes its own rows of the batch, in order."""

    def __init__(self, parts: Sequence[tuple[int, SelfAttention]]) -> None:
        self.parts = parts

    def __call__(self, layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Attend q, k, v (b, s, n, d), b being all parts' rows together."""
        counts = [count for count, _ in self.parts]
        rows = zip(q.split(counts), k.split(counts), v.split(counts), strict=True)
        return torch.cat(
            [part(layer, *row) for (_, part), row in zip(self.parts, rows, strict=True)]
        )
