"""AnnSA of FAST-AR (arXiv 2602.01801): block-sparse self-attention over a long history.

Every query reads the sink, the newest frames, and the active frames. Of the other keys, a block of
queries reads the blocks estimated to hold most of its attention. The blocks of a history are built
once after a commit. Whether they hold enough attention is estimated from sampled queries, once a
step and layer.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import pairwise

import torch
from torch import Tensor

from ...machine.uploads import upload
from ..kernels.choice import AUTO, selected_kernel, shares_kernel
from ..kernels.key_selection import KeySelection, select_for_all_heads
from ..layout import (
    AttentionInputs,
    InputGatherer,
    attend_inputs,
    select_frames,
    select_heads,
)
from .block_layout import BlockLayout, layout_history, split_frames, split_tokens
from .blocks import QUERY_BLOCK, choose_blocks
from .recall import DenseHeads, sampled_recall
from .settings import SparseSelf
from .stats import SparseStats

ROUNDING = 1e-9

Codes = Callable[[int, Sequence[int]], Tensor]
"""The bucket (b, n, t) of every key of a layer's history, which holds these latent frames."""

TokenNumbers = Callable[[int], Tensor]
"""The number (t,) in the rollout of the token of every key of a layer's history, -1 for none."""

Reading = tuple[tuple[int, ...], tuple[float, ...]]
"""The latent frames that a pass reads of a layer's history, and their weights."""

LayoutKey = tuple[int, int | None, int | None, Reading]
"""A layer, where the batch rows of a call begin and end, and what it reads."""


class SparseHistory:
    """Sparse attention over one cache, with the blocks of its history until the next commit.

    The first `sink_frames` are always read; histories of fewer than `min_keys` keys stay dense.
    """

    def __init__(  # noqa: PLR0913
        self,
        settings: SparseSelf,
        stats: SparseStats,
        *,
        sink_frames: int,
        min_keys: int,
        codes: Codes | None = None,
        token_numbers: TokenNumbers | None = None,
    ) -> None:
        self.settings, self.stats, self.codes = settings, stats, codes
        self.token_numbers = token_numbers
        self.sink_frames, self.min_keys = sink_frames, min_keys
        self._layouts: dict[LayoutKey, BlockLayout] = {}
        self._dense_heads = DenseHeads(settings.recall_floor, stats)

    def forget(self) -> None:
        """Drop blocks and dense heads: the history has changed."""
        self._layouts.clear()
        self._dense_heads.clear()

    def over(self, attention: InputGatherer, progress: Sequence[float]) -> SparseAttention:
        """The sparse form of `attention` for one pass.

        `progress` is the share of its steps that each active latent frame has done.
        """
        return SparseAttention(self, attention, progress)

    def layout(self, layer: int, rows: slice, inputs: AttentionInputs) -> BlockLayout:
        """The blocks of a layer's history for the batch `rows` of its cache."""
        key = layer, rows.start, rows.stop, _reading(inputs)
        if key not in self._layouts:
            codes = None if self.codes is None else self.codes(layer, inputs.frames)[rows]
            pinned = self.sink_frames, self.settings.recent_frames
            if self.token_numbers is None:
                always, rest = split_frames(inputs, *pinned)
            else:
                numbers = self.token_numbers(layer)
                always, rest = split_tokens(numbers, inputs.frame_tokens, *pinned)
            self._layouts[key] = layout_history(inputs, always, rest, codes)
        return self._layouts[key]

    def dense_heads(
        self,
        layer: int,
        rows: slice,
        inputs: AttentionInputs,
        selection: KeySelection,
        step: tuple[float, ...],
    ) -> list[list[int]]:
        """The heads of each batch row whose selected keys hold too little of the attention.

        Estimated at a row's first call in each step, from its own queries, so it does not matter
        whether rows attend together or one after another.
        """
        first, count, reading = rows.start or 0, inputs.q.shape[0], _reading(inputs)
        keys = [(layer, row, reading) for row in range(first, first + count)]
        return self._dense_heads.update(keys, step, lambda: sampled_recall(inputs, selection))


class SparseAttention:
    """Self-attention of the active frames to selected keys of the history and to themselves."""

    def __init__(
        self, history: SparseHistory, attention: InputGatherer, progress: Sequence[float]
    ) -> None:
        self.history, self.attention = history, attention
        self._step = tuple(progress)
        share = history.settings.dense_share
        self._early = [done < share - ROUNDING for done in progress]

    def __call__(self, layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Attend un-rotated q, k, v (b, s, n, d) of the active frames."""
        history, settings = self.history, self.history.settings
        inputs = self.attention.gather(layer, q, k, v)
        if layer in settings.dense_layers or inputs.past < history.min_keys:
            return self._dense(inputs).transpose(1, 2)
        outputs = [
            self._dense(run) if early else self._sparse(layer, run)
            for early, run in split_runs(inputs, self._early)
        ]
        return (outputs[0] if len(outputs) == 1 else torch.cat(outputs, 2)).transpose(1, 2)

    def _dense(self, inputs: AttentionInputs) -> Tensor:
        self.history.stats.add_pairs(_pairs(inputs), _pairs(inputs))
        return attend_inputs(inputs)

    def _sparse(self, layer: int, inputs: AttentionInputs) -> Tensor:
        history, rows, settings = self.history, self.attention.rows, self.history.settings
        layout = history.layout(layer, rows, inputs)
        selections = [select_keys(layout, inputs, *part, settings) for part in inputs.parts]
        dense = history.dense_heads(layer, rows, inputs, selections[-1], self._step)
        self._count(inputs, selections, sum(map(len, dense)))
        return attend_mixed(inputs, selections, dense, settings.kernel)

    def _count(
        self, inputs: AttentionInputs, selections: list[KeySelection], dense_heads: int
    ) -> None:
        """Count pairs; `dense_heads` is over all rows, and padding never counts beyond dense."""
        heads = inputs.q.shape[0] * inputs.q.shape[1]
        dense = _pairs(inputs) / heads  # of one head
        read = sum(
            (queries.stop - queries.start) * selection.keys
            for (queries, _), selection in zip(inputs.parts, selections, strict=True)
        )
        computed = dense_heads * dense + (heads - dense_heads) * min(read, dense)
        self.history.stats.add_pairs(computed, _pairs(inputs))


def _reading(inputs: AttentionInputs) -> Reading:
    return tuple(inputs.frames), inputs.weights


def split_runs(
    inputs: AttentionInputs, early: Sequence[bool]
) -> list[tuple[bool, AttentionInputs]]:
    """Split the inputs into runs of active latent frames that are all early or all late."""
    ends = [i for i in range(1, len(early)) if early[i] != early[i - 1]]
    if not ends:
        return [(early[0], inputs)]
    runs = pairwise([0, *ends, len(early)])
    return [(early[first], select_frames(inputs, first, stop)) for first, stop in runs]


def select_keys(
    layout: BlockLayout, inputs: AttentionInputs, queries: slice, own: int, settings: SparseSelf
) -> KeySelection:
    """The keys that the query blocks of one part read, in all heads."""
    blocks = layout.blocks.means.shape[2]
    count = min(blocks, max(1, round(settings.density * blocks)))
    sum_shares = shares_kernel(settings.kernel, inputs.q.device)
    chosen = choose_blocks(inputs.q[:, :, queries], layout.blocks, count, sum_shares)
    own_tokens = torch.arange(inputs.past, inputs.past + own, device=chosen.device)
    return select_for_all_heads(
        layout.blocks.tokens, chosen, torch.cat([layout.always, own_tokens])
    )


def attend_mixed(
    inputs: AttentionInputs,
    selections: list[KeySelection],
    dense: Sequence[Sequence[int]],
    kernel: str = AUTO,
) -> Tensor:
    """Attention (b, n, s, d) to the keys selected for each part.

    The `dense` heads of each batch row attend to all keys, which are not copied.
    """
    sparse = [
        (row, head)
        for row, dense_heads in enumerate(dense)
        for head in range(inputs.q.shape[1])
        if head not in dense_heads
    ]
    if not sparse:
        return attend_inputs(inputs)
    if not any(dense):
        return _attend_selected(inputs, selections, kernel).view(inputs.q.shape)
    out = torch.empty_like(inputs.q)
    rows, heads = upload(torch.tensor(sparse), out.device).T.contiguous()
    sparse_only = [replace(selection, rows=rows, heads=heads) for selection in selections]
    out[rows, heads] = _attend_selected(inputs, sparse_only, kernel)
    for row, dense_heads in enumerate(dense):
        for run in _runs(dense_heads):
            out[row : row + 1, run] = attend_inputs(select_heads(inputs, row, run))
    return out


def _runs(heads: Sequence[int]) -> list[slice]:
    """Runs of neighbouring heads, in order."""
    starts = [head for head in heads if head - 1 not in heads]
    ends = [head + 1 for head in heads if head + 1 not in heads]
    return [slice(*run) for run in zip(starts, ends, strict=True)]


def _attend_selected(
    inputs: AttentionInputs, selections: list[KeySelection], kernel: str
) -> Tensor:
    """Attention (p, s, d) of the p selected heads."""
    attend = selected_kernel(kernel, inputs.q.device)
    keys = inputs.keys, inputs.values, inputs.bias
    outputs = [
        attend(inputs.q[:, :, queries], *keys, selection, QUERY_BLOCK)
        for (queries, _), selection in zip(inputs.parts, selections, strict=True)
    ]
    return outputs[0] if len(outputs) == 1 else torch.cat(outputs, 1)


def _pairs(inputs: AttentionInputs) -> float:
    """Pairs of a query and a key it may see, over all heads."""
    seen = sum(
        (queries.stop - queries.start) * (inputs.past + own) for queries, own in inputs.parts
    )
    return float(inputs.q.shape[0] * inputs.q.shape[1] * seen)
