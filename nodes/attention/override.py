"""Sparse attention of a model that sees the whole sequence at once, through its host's override.

The host calls an override in place of its own attention; one that was there before is called for
all that is not for us. Heads that stay dense beside sparse ones, and prompts whose padding is
merged, are attended to here. q, k, v are (b, s, n d), as the host has them, keys rotated.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from ...attention.kernels.key_selection import KeySelection
from ...attention.layout import AttentionInputs
from ...attention.sparse.prompt_attention import SparsePrompt, attend_prompt, merge_padding
from ...attention.sparse.self_attention import (
    ROUNDING,
    attend_mixed,
    layout_history,
    low_recall_heads,
    sampled_recall,
    select_keys,
)
from ...attention.sparse.settings import SparseCross, SparseSelf, Sparsity
from ...attention.sparse.stats import SparseStats
from ...attention.sparse.thresholds import min_keys, min_prompt_tokens

Attend = Callable[..., Tensor]

LIKE = 1e-4  # of a noise level: it may come back rounded
MAX_PROMPT_TOKENS = 1024
"""Tokens; what has more keys than that is no prompt."""
PICTURE = 257
"""Tokens of CLIP's picture, of which a first and a last one have twice as many."""


Call = tuple[int, int]
"""A block of the model, and which of its attentions: a block attends to itself, then to the prompt,
and blocks beside the main ones (VACE) have their numbers and come after them.
"""
Row = tuple[Hashable, int]
"""A row of a batch, however the host puts batches together: its prompt, and which of those with it.
"""


class AttentionOverride:
    """Takes the place of dense attention where `sparsity` says so; `previous` was there before,
    unless it was one of these, which this one replaces. `on_step` is called when a step has ended,
    but for a run's last, of which the host's attention is not told.
    """

    def __init__(self, sparsity: Sparsity, previous: Attend | None = None) -> None:
        self.sparsity = sparsity
        self.previous: Attend | None = (
            previous.previous if isinstance(previous, AttentionOverride) else previous
        )
        self.on_step: Callable[[], None] = _nothing
        self.begin()

    def begin(self) -> None:
        """Another run begins: nothing was done, and no head is known to be poor."""
        self.stats = SparseStats()
        self.asked = False  # whether the host called this at all
        self.dense_because = "none of it came without a mask"  # of the last that was dense
        self.to_prompt = SparsePrompt(self.sparsity.prompt_sparsity or SparseCross())
        self._call: Call = (-1, 0)
        self._level = 0.0
        self._dense_heads: dict[tuple[Call, Row], list[int]] = {}

    def __call__(self, dense: Attend, *given: Any, **options: Any) -> Tensor:
        """What `dense` would be called with; its result, or close to it."""
        made = self._sparse(*given, **options)
        if made is not None:
            return made
        if self.previous is not None:
            return self.previous(dense, *given, **options)
        return dense(*given, **options)

    def _sparse(  # noqa: PLR0913
        self,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        heads: int,
        mask: Tensor | None = None,
        attn_precision: torch.dtype | None = None,
        skip_reshape: bool = False,
        skip_output_reshape: bool = False,
        transformer_options: Mapping[str, Any] | None = None,
        scale: float | None = None,
        enable_gqa: bool = False,
        **_: Any,
    ) -> Tensor | None:
        """Sparse attention, or None where it is not for us: with a mask, a scale of its own or
        heads that share keys.
        """
        if not transformer_options:
            return None
        picture = k.shape[1] in (PICTURE, 2 * PICTURE) and k.shape[1] != q.shape[1]
        self._note(transformer_options, counts=not picture)
        if mask is not None or skip_reshape or skip_output_reshape:
            return None
        if scale is not None or enable_gqa:
            return None
        parts = [x.unflatten(-1, (heads, -1)) for x in (q, k, v)]
        self_sparsity, prompt_sparsity = self.sparsity.self_sparsity, self.sparsity.prompt_sparsity
        # A prompt may be as long as the picture has tokens: then the order of calls tells them.
        of_itself = q.shape[1] == k.shape[1] and self._call[1] % 2 == 0
        made = None
        if of_itself and self_sparsity is not None:
            made = self._self(self_sparsity, parts, transformer_options)
        elif not of_itself and prompt_sparsity is not None and _merges(prompt_sparsity, k):
            made = self._prompt(prompt_sparsity, parts, transformer_options, picture=picture)
        return None if made is None else made.flatten(2)

    def _note(self, options: Mapping[str, Any], *, counts: bool) -> None:
        """Which attention of the model this is, and whether another step or run has begun. That to
        a picture beside the prompt does not count.
        """
        block, level = int(options.get("block_index", -1)), _level(options)
        if self.asked and level != self._level:
            self.on_step()
        self.asked = True
        if level > self._level:  # noise grew
            self._dense_heads.clear()
        same = block == self._call[0] and level == self._level
        self._call, self._level = (block, self._call[1] + counts if same else 0), level

    def _prompt(
        self, chosen: SparseCross, parts: list[Tensor], options: Mapping[str, Any], *, picture: bool
    ) -> Tensor:
        """Attention of q (b, s, n, d) to a prompt, pruned for each latent frame; a picture's tokens
        are no words, and all of them stay.
        """
        q, (k, v) = parts[0], parts[1:]
        prompt = merge_padding(k, v)
        if picture:
            return attend_prompt(q, prompt)
        frames = _latent_frames(options, q.shape[1]) if chosen.prune else 1
        each = q.unflatten(1, (frames, -1)).flatten(0, 1)  # (b f, s / f, n, d)
        return self.to_prompt.attend(each, prompt.repeat_rows(frames)).reshape(q.shape)

    def _self(
        self, chosen: SparseSelf, parts: list[Tensor], options: Mapping[str, Any]
    ) -> Tensor | None:
        """Block-sparse attention of (b, s, n, d), or None where it is to be dense."""
        tokens, layer = parts[0].shape[1], self._call[0]
        all_pairs = float(parts[0].shape[0] * parts[0].shape[2] * tokens * tokens)
        least, reason = min_keys(chosen.min_keys, parts[0].device)
        if least is None:
            self.dense_because = reason.removeprefix("dense, since ")
            return None
        because = _whole(chosen, tokens, least, layer, _progress(options))
        if because:
            self.dense_because = because
            self.stats.add_pairs(all_pairs, all_pairs)
            return None
        q, k, v = (x.transpose(1, 2).contiguous() for x in parts)
        laid = AttentionInputs(q, k, v, None, tokens, ((slice(0, tokens), 0),), [-1], tokens)
        read = select_keys(
            layout_history(laid, 0, 0, None), laid, slice(0, tokens), 0, chosen.density
        )
        dense = self._poor_heads(chosen.recall_floor, laid, read, _rows(options, len(q)))
        of_dense = sum(map(len, dense))
        sparse = q.shape[0] * q.shape[1] - of_dense
        computed = of_dense * tokens + sparse * min(read.keys, tokens)
        self.stats.add_pairs(float(tokens * computed), all_pairs)
        return attend_mixed(laid, [read], dense, chosen.kernel).transpose(1, 2) if sparse else None

    def _poor_heads(
        self, floor: float, laid: AttentionInputs, read: KeySelection, rows: Sequence[Row]
    ) -> list[list[int]]:
        """Of each row the heads that are dense throughout a run, found in its first sparse step."""
        asked = [(self._call, row) for row in rows]
        if any(one not in self._dense_heads for one in asked):
            recall = sampled_recall(laid, read).tolist()  # (b, n)
            for one, of_row in zip(asked, recall, strict=True):
                if one not in self._dense_heads:
                    self._dense_heads[one] = low_recall_heads(of_row, floor)
                    self.stats.add_recall(of_row, len(self._dense_heads[one]))
        return [self._dense_heads[one] for one in asked]


def _nothing() -> None:
    """Nobody wants to know of steps."""


def _whole(chosen: SparseSelf, tokens: int, least: int, layer: int, done: float | None) -> str:
    """Why a layer's self-attention is dense at that share of a run's steps, empty if it is not."""
    if tokens < least:
        return f"{tokens:,} tokens are fewer than {least:,}, from which on it pays"
    if done is None:
        return "the sampler does not say which step it is at"
    if done < chosen.dense_share - ROUNDING:
        return f"the first {chosen.dense_share:.0%} of the steps are dense"
    return f"layer {layer} is dense" if layer in chosen.dense_layers else ""


def _merges(chosen: SparseCross, k: Tensor) -> bool:
    """Whether the padding of a prompt with keys k (b, l, n d) is to be merged."""
    least, _ = min_prompt_tokens(chosen.from_tokens, k.device)
    return least is not None and least <= k.shape[1] <= MAX_PROMPT_TOKENS


def _rows(options: Mapping[str, Any], count: int) -> list[Row]:
    """What the rows of a batch of `count` are. The host names prompts, by numbers of their own or
    else as positive and negative, and has so many rows of each; without a name they are alike.
    """
    prompts = options.get("uuids") or options.get("cond_or_uncond") or [None]
    if count % len(prompts):
        prompts = [None]
    return [(prompt, row) for prompt in prompts for row in range(count // len(prompts))]


def _latent_frames(options: Mapping[str, Any], tokens: int) -> int:
    """How many latent frames so many tokens are, 1 if the host does not say or means others."""
    frames, rows, columns = options.get("grid_sizes", (1, 1, 1))
    return int(frames) if frames * rows * columns == tokens else 1


def _level(options: Mapping[str, Any]) -> float:
    """The noise level of a step, 0 if the host does not say."""
    sigmas = options.get("sigmas")
    return 0.0 if sigmas is None else float(sigmas.max())


def _progress(options: Mapping[str, Any]) -> float | None:
    """The share of a run's steps that is done, if the host says."""
    of_run = options.get("sample_sigmas")
    if of_run is None or len(of_run) < 2 or "sigmas" not in options:
        return None
    done = (of_run[:-1] > (1 + LIKE) * _level(options)).sum()
    return int(done) / (len(of_run) - 1)
