"""Views of a KV cache: attention to part of the history, and several views in one pass."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import groupby

import torch
from torch import Tensor

from .dense import attend, parts
from .history import HistoryCache
from .layout import AttentionInputs, attend_inputs
from .rope import rotate
from .states.cache import StateCache, StateReader
from .token_numbers import token_numbers


class PartialHistory:
    """Self-attention of the active latent frames over chosen history `slots` and themselves.

    Positions are those of the whole history: the active frames' positions do not depend on the
    view, and omitted frames leave gaps. `rows` are cache rows, `positions` those of the active
    frames. Active frame i sees the first `visible[i]` active frames. Valid until the next commit.
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
        shape, device, slot_positions = cache.shape, cache.device, cache.positions
        self._active = shape.rotation(positions, device)
        self._parts = parts(visible, 0, shape.frame_tokens)
        numbers = cache.kept_frames
        self._frames = [numbers[slot] for slot in slots]
        self._past = (
            shape.rotation([slot_positions[slot] for slot in slots], device) if slots else None
        )
        self._tokens = token_numbers(slots, shape.frame_tokens, device)

    def __call__(self, layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Attend un-rotated q, k, v (b, s, n, d) of the active frames."""
        return attend_inputs(self.gather(layer, q, k, v)).transpose(1, 2)

    def key_frames(self, layer: int) -> Tensor | None:
        """None: the inputs tell the latent frame of every slot."""

    def gather(self, layer: int, q: Tensor, k: Tensor, v: Tensor) -> AttentionInputs:
        """The chosen slots' keys and values in front of the active ones, copied."""
        keys, values = rotate(k, self._active), v
        if self._past is not None:
            past = [tensor[self.rows][:, self._tokens] for tensor in self.cache.history(layer)]
            keys = torch.cat([rotate(past[0], self._past), keys], 1)
            values = torch.cat([past[1], values], 1)
        queries = rotate(q, self._active)
        return AttentionInputs(
            queries.transpose(1, 2), keys.transpose(1, 2), values.transpose(1, 2), None,
            len(self._tokens), self._parts, self._frames, self.cache.shape.frame_tokens,
            products=self.cache.shape.products,
        )  # fmt: skip


def part_of(
    cache: HistoryCache,
    visible: Sequence[int],
    rows: slice,
    slots: Sequence[int],
    positions: Sequence[int],
) -> PartialHistory | StateReader:
    """What active frames see of chosen `slots`; of a state, nothing or ValueError."""
    if not isinstance(cache, StateCache):
        return PartialHistory(cache, visible, rows, slots, positions)
    if slots:
        raise ValueError("a part of a state cannot be read")
    return cache.no_history(rows)


class LimitedLookback:
    """`PartialHistory` with a lower bound: active frame i sees no position below `lowest[i]`."""

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
        shape, device, tokens = cache.shape, cache.device, cache.shape.frame_tokens
        slot_positions = cache.positions
        past_positions = [slot_positions[slot] for slot in slots]
        self._past = shape.rotation(past_positions, device) if slots else None
        self._active = shape.rotation(positions, device)
        self._slots = token_numbers(slots, tokens, device)
        self._parts: list[tuple[slice, Tensor]] = []
        by_bounds = groupby(range(len(visible)), lambda i: (visible[i], lowest[i]))
        for (count, low), frames in by_bounds:
            key_positions = [*past_positions, *positions[:count]]
            seen = [i for i, position in enumerate(key_positions) if position >= low]
            first, *rest = frames
            queries = slice(first * tokens, (first + len(rest) + 1) * tokens)
            self._parts.append((queries, token_numbers(seen, tokens, device)))

    def __call__(self, layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Attend un-rotated q, k, v (b, s, n, d) of the active frames."""
        queries, keys, values = rotate(q, self._active), rotate(k, self._active), v
        if self._past is not None:
            past = [tensor[self.rows][:, self._slots] for tensor in self.cache.history(layer)]
            keys = torch.cat([rotate(past[0], self._past), keys], 1)
            values = torch.cat([past[1], values], 1)
        outputs = [attend(queries[:, at], keys[:, n], values[:, n]) for at, n in self._parts]
        return torch.cat(outputs, 1)


SelfAttention = Callable[[int, Tensor, Tensor, Tensor], Tensor]


class SplitRows:
    """Several attentions in one pass: each attends its own rows of the batch, in order."""

    def __init__(self, parts: Sequence[tuple[int, SelfAttention]]) -> None:
        self.parts = parts

    def __call__(self, layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Attend q, k, v (b, s, n, d); b is the sum of all parts' rows."""
        counts = [count for count, _ in self.parts]
        rows = zip(q.split(counts), k.split(counts), v.split(counts), strict=True)
        return torch.cat(
            [part(layer, *row) for (_, part), row in zip(self.parts, rows, strict=True)]
        )


class SplitFrames:
    """Several attentions in one pass: each attends its own run of active frames, in order."""

    def __init__(self, parts: Sequence[SelfAttention]) -> None:
        self.parts = parts

    def __call__(self, layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Attend q, k, v (b, s, n, d); every part gets all of them and returns its own run."""
        return torch.cat([part(layer, q, k, v) for part in self.parts], 1)
