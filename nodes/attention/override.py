"""Sparse attention on ComfyUI's own samplers, where a model sees the whole sequence at once.

ComfyUI calls an attention override in place of its own attention. Calls that stay dense go to the
override that was there before. q, k and v are (b, s, n d), as ComfyUI lays them out, keys rotated.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from typing import Any

import torch
from torch import Tensor

from ...attention.layout import AttentionInputs
from ...attention.sparse.block_layout import layout_history, split_frames
from ...attention.sparse.prompt_attention import SparsePrompt, attend_prompt, merge_padding
from ...attention.sparse.recall import DenseHeads, sampled_recall
from ...attention.sparse.self_attention import ROUNDING, attend_mixed, select_keys
from ...attention.sparse.settings import SparseCross, SparseSelf, Sparsity
from ...attention.sparse.stats import SparseStats
from ...attention.sparse.thresholds import min_keys, min_prompt_tokens

Attend = Callable[..., Tensor]

LEVEL_TOLERANCE = 1e-4  # relative: a noise level may come back rounded
MAX_PROMPT_TOKENS = 1024
"""Attention over more keys than this is not to a prompt."""
PICTURE = 257
"""Tokens of one CLIP picture; a first and a last picture together have twice as many."""


Call = tuple[int, int]
"""The number of a block, and the position of the attention call in it.

A block attends to itself first, then to the prompt. Extra blocks (VACE) reuse the numbers of main
blocks and come after them.
"""
Row = tuple[Hashable, int]
"""A batch row, independent of how the host batches: its prompt, and its index among the rows with
that prompt.
"""


class AttentionOverride:
    """Replaces dense attention where `sparsity` says so.

    `previous` is the model's earlier override; an `AttentionOverride` there is replaced.
    `on_step` is called at the end of every step but the last of a run, which no call reveals.
    """

    def __init__(self, sparsity: Sparsity, previous: Attend | None = None) -> None:
        self.sparsity = sparsity
        self.previous: Attend | None = (
            previous.previous if isinstance(previous, AttentionOverride) else previous
        )
        self.on_step: Callable[[], None] = lambda: None
        self.begin()

    def begin(self) -> None:
        """Reset all statistics for a new run."""
        self.stats = SparseStats()
        self.called = False  # by the host, in this run
        self.dense_reason = "every call had a mask"  # of the last dense call
        self.prompt_attention = SparsePrompt(self.sparsity.prompt_sparsity or SparseCross())
        self._call: Call = (-1, 0)
        self._level = 0.0
        self_sparsity = self.sparsity.self_sparsity or SparseSelf()
        self._dense_heads = DenseHeads(self_sparsity.recall_floor, self.stats)

    def __call__(self, dense: Attend, *inputs: Any, **options: Any) -> Tensor:
        """Attend sparsely, or pass the call on to `previous` or to `dense`."""
        attended = self._sparse(*inputs, **options)
        if attended is not None:
            return attended
        if self.previous is not None:
            return self.previous(dense, *inputs, **options)
        return dense(*inputs, **options)

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
        """Attend sparsely; None for calls with a mask, a scale or shared keys, which stay dense."""
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
        # A prompt can have as many tokens as the picture; the order of calls tells them apart.
        is_self = q.shape[1] == k.shape[1] and self._call[1] % 2 == 0
        attended = None
        if is_self and self_sparsity is not None:
            attended = self._self(self_sparsity, parts, transformer_options)
        elif not is_self and prompt_sparsity is not None and _merges(prompt_sparsity, k):
            attended = self._prompt(prompt_sparsity, parts, transformer_options, picture=picture)
        return None if attended is None else attended.flatten(2)

    def _note(self, options: Mapping[str, Any], *, counts: bool) -> None:
        """Note which attention of the model this is, and whether a new step or run has begun.

        `counts` is False for attention to a picture, which comes in addition to the prompt's.
        """
        block, level = int(options.get("block_index", -1)), _level(options)
        if self.called and level != self._level:
            self.on_step()
        self.called = True
        if level > self._level:  # noise grew
            self._dense_heads.clear()
        same = block == self._call[0] and level == self._level
        self._call, self._level = (block, self._call[1] + counts if same else 0), level

    def _prompt(
        self, chosen: SparseCross, parts: list[Tensor], options: Mapping[str, Any], *, picture: bool
    ) -> Tensor:
        """Attend from q (b, s, n, d) to a prompt, pruned per latent frame unless `picture`."""
        q, (k, v) = parts[0], parts[1:]
        prompt = merge_padding(k, v)
        if picture:
            return attend_prompt(q, prompt)
        frames = _latent_frames(options, q.shape[1]) if chosen.prune else 1
        each = q.unflatten(1, (frames, -1)).flatten(0, 1)  # (b f, s / f, n, d)
        return self.prompt_attention.attend(each, prompt.repeat_rows(frames)).reshape(q.shape)

    def _self(
        self, chosen: SparseSelf, parts: list[Tensor], options: Mapping[str, Any]
    ) -> Tensor | None:
        """Block-sparse attention of (b, s, n, d); None where it stays dense."""
        tokens, layer = parts[0].shape[1], self._call[0]
        all_pairs = float(parts[0].shape[0] * parts[0].shape[2] * tokens * tokens)
        least, reason = min_keys(chosen.min_keys, parts[0].device)
        if least is None:
            self.dense_reason = reason.removeprefix("dense, since ")
            return None
        reason = _dense_reason(chosen, tokens, least, layer, _progress(options))
        if reason:
            self.dense_reason = reason
            self.stats.add_pairs(all_pairs, all_pairs)
            return None
        q, k, v = (x.transpose(1, 2).contiguous() for x in parts)
        inputs = AttentionInputs(q, k, v, None, tokens, ((slice(0, tokens), 0),), [-1], tokens)
        layout = layout_history(inputs, *split_frames(inputs, 0, 0))
        selection = select_keys(layout, inputs, slice(0, tokens), 0, chosen)
        rows = [(self._call, row) for row in _rows(options, len(q))]
        dense = self._dense_heads.update(
            rows, self._level, lambda: sampled_recall(inputs, selection)
        )
        dense_heads = sum(map(len, dense))
        sparse = q.shape[0] * q.shape[1] - dense_heads
        computed = dense_heads * tokens + sparse * min(selection.keys, tokens)
        self.stats.add_pairs(float(tokens * computed), all_pairs)
        return (
            attend_mixed(inputs, [selection], dense, chosen.kernel).transpose(1, 2)
            if sparse
            else None
        )


def _dense_reason(
    chosen: SparseSelf, tokens: int, least: int, layer: int, done: float | None
) -> str:
    """Why a layer is dense when a share `done` of the steps is over; empty if it is sparse."""
    if tokens < least:
        return f"{tokens:,} tokens are fewer than the {least:,} from which sparse is faster"
    if done is None:
        return "the sampler does not report its step"
    if done < chosen.dense_share - ROUNDING:
        return f"the first {chosen.dense_share:.0%} of the steps are dense"
    return f"layer {layer} is dense" if layer in chosen.dense_layers else ""


def _merges(chosen: SparseCross, k: Tensor) -> bool:
    """Whether to merge the padding of a prompt with keys k (b, l, n d)."""
    least, _ = min_prompt_tokens(chosen.from_tokens, k.device)
    return least is not None and least <= k.shape[1] <= MAX_PROMPT_TOKENS


def _rows(options: Mapping[str, Any], count: int) -> list[Row]:
    """Identify the rows of a batch of `count`.

    The host names the prompts of a batch, by unique ids or as positive and negative, and gives each
    the same number of rows.
    """
    prompts = options.get("uuids") or options.get("cond_or_uncond") or [None]
    if count % len(prompts):
        prompts = [None]
    return [(prompt, row) for prompt in prompts for row in range(count // len(prompts))]


def _latent_frames(options: Mapping[str, Any], tokens: int) -> int:
    """The latent frames of `tokens`; 1 if the host does not report a matching grid."""
    frames, rows, columns = options.get("grid_sizes", (1, 1, 1))
    return int(frames) if frames * rows * columns == tokens else 1


def _level(options: Mapping[str, Any]) -> float:
    """The noise level of a step; 0 if the host does not report one."""
    sigmas = options.get("sigmas")
    return 0.0 if sigmas is None else float(sigmas.max())


def _progress(options: Mapping[str, Any]) -> float | None:
    """The share of a run's steps that is done; None if the host does not report them."""
    run_sigmas = options.get("sample_sigmas")
    if run_sigmas is None or len(run_sigmas) < 2 or "sigmas" not in options:
        return None
    done = (run_sigmas[:-1] > (1 + LEVEL_TOLERANCE) * _level(options)).sum()
    return int(done) / (len(run_sigmas) - 1)
