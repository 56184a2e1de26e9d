"""AnnSA of FAST-AR (arXiv 2602.01801): block-sparse self-attention over a long history.

What is always read: the sink, the newest frames, and the active frames themselves. Of the rest, a
block of queries reads the blocks that its own queries point to. Which blocks a history has is found
once after a commit; whether they are good enough, from sampled queries once a chunk and layer.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import torch
from torch import Tensor

from ..kernels.choice import AUTO, selected_kernel
from ..kernels.key_selection import Read, read_by_all
from ..layout import AttentionInputs, HistoryAttention, attend_inputs, select_heads
from .blocks import QUERY_BLOCK, Blocks, blocks_of, choose
from .settings import SparseSelf
from .stats import SparseStats

SAMPLED_QUERIES = 16
ROUNDING = 1e-9

Codes = Callable[[int], Tensor]
"""The bucket (b, n, t) of every key of a layer's history."""


Key = tuple[int, int | None, int | None]
"""A layer, and the first and last of the batch rows that are looked at."""


@dataclass(frozen=True, slots=True)
class Layout:
    """The keys of a layer's history: `always` read (m,), and `blocks` to choose from."""

    always: Tensor
    blocks: Blocks


class SparseHistory:
    """Sparse attention over one cache, and what is known of its history until the next commit.

    The first `sink_frames` are always read; `min_keys` is the least history that is sparse.
    """

    def __init__(
        self,
        settings: SparseSelf,
        stats: SparseStats,
        *,
        sink_frames: int,
        min_keys: int,
        codes: Codes | None = None,
    ) -> None:
        self.settings, self.stats, self.codes = settings, stats, codes
        self.sink_frames, self.min_keys = sink_frames, min_keys
        self._layouts: dict[Key, Layout] = {}
        self._dense_heads: dict[tuple[int, int], list[int]] = {}  # of a layer and batch row

    def forget(self) -> None:
        """The history has changed."""
        self._layouts.clear()
        self._dense_heads.clear()

    def over(self, attention: HistoryAttention, progress: Sequence[float]) -> SparseAttention:
        """`attention` made sparse in a pass whose latent frames have that share of their steps
        behind them.
        """
        return SparseAttention(self, attention, progress)

    def layout(self, layer: int, rows: slice, laid: AttentionInputs) -> Layout:
        """The blocks of a layer's history, for batch `rows` of its cache."""
        key = layer, rows.start, rows.stop
        if key not in self._layouts:
            codes = None if self.codes is None else self.codes(layer)[rows]
            recent = self.settings.recent_frames
            self._layouts[key] = layout_of(laid, self.sink_frames, recent, codes)
        return self._layouts[key]

    def dense_heads(
        self, layer: int, rows: slice, laid: AttentionInputs, read: Read
    ) -> list[list[int]]:
        """Of each batch row of a call the heads that `read` too little of the attention.

        Estimated when a row is first asked about after a commit, by its own queries: whether rows
        attend together or one after another changes nothing.
        """
        first, count = rows.start or 0, laid.q.shape[0]
        numbers = range(first, first + count)
        new = [i for i, row in enumerate(numbers) if (layer, row) not in self._dense_heads]
        if new:
            recall = sampled_recall(laid, read)  # (b, n)
            if recall.is_meta:  # a rehearsal has no numbers: one dense head costs the most
                one = [0] if self.settings.recall_floor > 0 else []
                return [one, *[[]] * (count - 1)]
            of_rows = recall.tolist()
            for i in new:
                poor = poor_heads(of_rows[i], self.settings.recall_floor)
                self.stats.add_recall(of_rows[i], len(poor))
                self._dense_heads[layer, numbers[i]] = poor
        return [self._dense_heads[layer, row] for row in numbers]


class SparseAttention:
    """Self-attention of the active frames over part of the history and themselves."""

    def __init__(
        self, history: SparseHistory, attention: HistoryAttention, progress: Sequence[float]
    ) -> None:
        self.history, self.attention = history, attention
        share = history.settings.dense_share
        self._early = [done < share - ROUNDING for done in progress]

    def __call__(self, layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Attend un-rotated q, k, v (b, s, n, d) of the active frames."""
        history, settings = self.history, self.history.settings
        laid = self.attention.laid(layer, q, k, v)
        if layer in settings.dense_layers or laid.past < history.min_keys:
            return self._dense(laid).transpose(1, 2)
        made = [
            self._dense(of_run) if early else self._sparse(layer, of_run)
            for early, of_run in in_runs(laid, self._early)
        ]
        return (made[0] if len(made) == 1 else torch.cat(made, 2)).transpose(1, 2)

    def _dense(self, laid: AttentionInputs) -> Tensor:
        self.history.stats.add_pairs(_pairs(laid), _pairs(laid))
        return attend_inputs(laid)

    def _sparse(self, layer: int, laid: AttentionInputs) -> Tensor:
        history, rows, settings = self.history, self.attention.rows, self.history.settings
        layout = history.layout(layer, rows, laid)
        reads = [read_of(layout, laid, *part, settings.density) for part in laid.parts]
        dense = history.dense_heads(layer, rows, laid, reads[-1])
        self._count(laid, reads, sum(map(len, dense)))
        return attend_mixed(laid, reads, dense, settings.kernel)

    def _count(self, laid: AttentionInputs, reads: list[Read], dense_heads: int) -> None:
        """`dense_heads` over all rows; block tails may be padded, so never more than dense."""
        heads = laid.q.shape[0] * laid.q.shape[1]
        dense = _pairs(laid) / heads  # of one head
        read = sum(
            (queries.stop - queries.start) * of_part.keys
            for (queries, _), of_part in zip(laid.parts, reads, strict=True)
        )
        computed = dense_heads * dense + (heads - dense_heads) * min(read, dense)
        self.history.stats.add_pairs(computed, _pairs(laid))


def in_runs(laid: AttentionInputs, early: Sequence[bool]) -> list[tuple[bool, AttentionInputs]]:
    """Runs of active latent frames that are all early or all not, each with its own queries."""
    ends = [i for i in range(1, len(early)) if early[i] != early[i - 1]]
    if not ends:
        return [(early[0], laid)]
    found = []
    for first, stop in pairwise([0, *ends, len(early)]):
        start, end = first * laid.frame_tokens, stop * laid.frame_tokens
        parts = tuple(
            (slice(max(at.start, start) - start, min(at.stop, end) - start), own)
            for at, own in laid.parts
            if at.start < end and start < at.stop
        )
        found.append((early[first], replace(laid, q=laid.q[:, :, start:end], parts=parts)))
    return found


def layout_of(
    laid: AttentionInputs, sink_frames: int, recent_frames: int, codes: Tensor | None
) -> Layout:
    """What is laid out as blocks, but for the sink and the newest frames.

    Sorted by `codes` (b, n, past) if given.
    """
    newest = max(laid.frames, default=-1)
    recent = range(max(0, newest + 1 - recent_frames), newest + 1)
    pinned = torch.tensor([0 <= f < sink_frames or f in recent for f in laid.frames])
    tokens = pinned.repeat_interleave(laid.frame_tokens)[: laid.past]
    always, rest = (part.nonzero().flatten().to(laid.keys.device) for part in (tokens, ~tokens))
    of_rest = None if codes is None else codes[:, :, rest]
    return Layout(always, blocks_of(laid.keys, laid.bias, rest, of_rest))


def read_of(
    layout: Layout, laid: AttentionInputs, queries: slice, own: int, density: float
) -> Read:
    """What a part's blocks of queries read, in all heads."""
    blocks = layout.blocks.means.shape[2]
    count = min(blocks, max(1, round(density * blocks)))
    chosen = choose(laid.q[:, :, queries], layout.blocks, count)
    own_tokens = torch.arange(laid.past, laid.past + own, device=chosen.device)
    return read_by_all(layout.blocks.tokens, chosen, torch.cat([layout.always, own_tokens]))


def poor_heads(recall: Sequence[float], floor: float) -> list[int]:
    """The heads whose `recall` is under the floor."""
    return [head for head, held in enumerate(recall) if held < floor]


def attend_mixed(
    laid: AttentionInputs, reads: list[Read], dense: Sequence[Sequence[int]], kernel: str = AUTO
) -> Tensor:
    """Attention (b, n, s, d) over what each part `reads`; over everything in the `dense` heads of
    each batch row, whose keys are not copied.
    """
    sparse = [
        (row, head)
        for row, poor in enumerate(dense)
        for head in range(laid.q.shape[1])
        if head not in poor
    ]
    if not sparse:
        return attend_inputs(laid)
    if not any(dense):
        return _attend_read(laid, reads, kernel).view(laid.q.shape)
    out = torch.empty_like(laid.q)
    rows, heads = torch.tensor(sparse, device=out.device).T.contiguous()
    some = [replace(of_part, rows=rows, heads=heads) for of_part in reads]
    out[rows, heads] = _attend_read(laid, some, kernel)
    for row, poor in enumerate(dense):
        for run in _runs(poor):
            out[row : row + 1, run] = attend_inputs(select_heads(laid, row, run))
    return out


def _runs(heads: Sequence[int]) -> list[slice]:
    """Neighbouring heads, in order, together."""
    starts = [head for head in heads if head - 1 not in heads]
    ends = [head + 1 for head in heads if head + 1 not in heads]
    return [slice(*run) for run in zip(starts, ends, strict=True)]


def _attend_read(laid: AttentionInputs, reads: list[Read], kernel: str) -> Tensor:
    """Attention (p, s, d) of the p heads that read."""
    attend = selected_kernel(kernel, laid.q.device)
    made = [
        attend(laid.q[:, :, queries], laid.keys, laid.values, laid.bias, of_part, QUERY_BLOCK)
        for (queries, _), of_part in zip(laid.parts, reads, strict=True)
    ]
    return made[0] if len(made) == 1 else torch.cat(made, 1)


def sampled_recall(laid: AttentionInputs, read: Read) -> Tensor:
    """The share of attention (b, n) of sampled queries of the last part that the keys that all
    heads `read` hold.
    """
    queries, own = laid.parts[-1]
    q, stop = laid.q[:, :, queries], laid.past + own
    at = torch.linspace(0, q.shape[2] - 1, min(SAMPLED_QUERIES, q.shape[2]), device=q.device).long()
    logits = (q[:, :, at] @ laid.keys[:, :, :stop].transpose(2, 3)).float() * q.shape[-1] ** -0.5
    if laid.bias is not None:
        logits = logits + laid.bias[:, :, None, :stop]
    weights = logits.softmax(-1)  # (b, n, queries, t)
    keys = read.of(at // QUERY_BLOCK).unflatten(0, weights.shape[:2])  # (b, n, queries, m)
    seen = weights.new_zeros(*weights.shape[:3], stop + 1)
    seen.scatter_(3, keys.masked_fill(keys < 0, stop), 1.0)
    recall: Tensor = (weights * seen[..., :stop]).sum(-1).mean(2)
    return recall


def _pairs(laid: AttentionInputs) -> float:
    """Queries and keys that they may see, over all heads."""
    seen = sum((queries.stop - queries.start) * (laid.past + own) for queries, own in laid.parts)
    return float(laid.q.shape[0] * laid.q.shape[1] * seen)
