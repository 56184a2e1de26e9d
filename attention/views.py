"""Views of a KV cache: attention over some of the history, and several views in one pass."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import groupby

import torch
from torch import Tensor

from .dense import attend, attend_in_parts, parts
from .history import HistoryCache
from .rope import rotate


class PartOfHistory:
    """Self-attention of the active latent frames over chosen `slots` of the history and themselves.

    Positions are those of the whole history, so the active frames' own do not depend on the view
    and left-out frames leave gaps. `rows` picks cache rows, `positions` are the active frames'.
    `visible` is as for `KVCache.attention`. Valid until the next commit.
    """

    def __init__(  # noqa: PLR0913
        self,
        cache: HistoryCache,
        visible: Sequence[int],
        rows: slice,
        slots: Sequence[int],
        positions: Sequence[int],
    ) -> None:
        self.cache, self.rows = cache, rows
        tokens, of_slots = cache.shape.frame_tokens, cache.positions
        self._now = cache.rotation(positions)
        self._parts = parts(visible, len(slots), tokens)
        self._past = cache.rotation([of_slots[slot] for slot in slots]) if slots else None
        self._tokens = _tokens(slots, tokens, cache.device)

    def __call__(self, layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Attend un-rotated q, k, v (b, s, n, d) of the active frames."""
        keys, values = rotate(k, self._now), v
        if self._past is not None:
            past = [kept[self.rows][:, self._tokens] for kept in self.cache.history(layer)]
            keys = torch.cat([rotate(past[0], self._past), keys], 1)
            values = torch.cat([past[1], values], 1)
        return attend_in_parts(rotate(q, self._now), keys, values, self._parts)


class ReachingBack:
    """As `PartOfHistory`, where active frame i sees nothing at positions before `lowest[i]`."""

    def __init__(  # noqa: PLR0913
        self,
        cache: HistoryCache,
        visible: Sequence[int],
        rows: slice,
        slots: Sequence[int],
        positions: Sequence[int],
        lowest: Sequence[int],
    ) -> None:
        self.cache, self.rows = cache, rows
        of_slots, tokens = cache.positions, cache.shape.frame_tokens
        held = [of_slots[slot] for slot in slots]
        self._past = cache.rotation(held) if slots else None
        self._now = cache.rotation(positions)
        self._slots = _tokens(slots, tokens, cache.device)
        self._parts: list[tuple[slice, Tensor]] = []
        alike = groupby(range(len(visible)), lambda i: (visible[i], lowest[i]))
        for (count, low), frames in alike:
            of_all = [*held, *positions[:count]]
            seen = [i for i, position in enumerate(of_all) if position >= low]
            first, *rest = frames
            queries = slice(first * tokens, (first + len(rest) + 1) * tokens)
            self._parts.append((queries, _tokens(seen, tokens, cache.device)))

    def __call__(self, layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Attend un-rotated q, k, v (b, s, n, d) of the active frames."""
        queries, keys, values = rotate(q, self._now), rotate(k, self._now), v
        if self._past is not None:
            past = [kept[self.rows][:, self._slots] for kept in self.cache.history(layer)]
            keys = torch.cat([rotate(past[0], self._past), keys], 1)
            values = torch.cat([past[1], values], 1)
        made = [attend(queries[:, at], keys[:, n], values[:, n]) for at, n in self._parts]
        return torch.cat(made, 1)


def _tokens(frames: Sequence[int], tokens: int, device: torch.device) -> Tensor:
    """The places of the tokens of latent frames."""
    first = torch.tensor([*frames], dtype=torch.long, device=device) * tokens
    return (first[:, None] + torch.arange(tokens, device=device)).flatten()


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
