"""Dense and selected attention with a bias for each key through PyTorch's FlexAttention.

FlexAttention compiles one fused kernel from a function of a logit (arXiv 2412.05496). Uncompiled it
would hold all logits, so it is only used compiled; `backends.usable_backends` says where that is
possible. It must be chosen by name. Tensors are (b, n, s, d).
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention.flex_attention import BlockMask, flex_attention

from .key_selection import KeySelection

KEY_BLOCK = 128
QUERIES_AT_ONCE = 64
"""Queries that a kernel on CUDA takes at most; they must divide the blocks of a mask."""
QUERIES_AT_ONCE_WIDE = 32
"""Queries at once in float32: twice as many exceed a multiprocessor's shared memory."""
COMPILED_FORMS = 64
"""Compiled variants allowed: sizes of 1 have their own, and torch's default limit is 8."""
DENSE, SELECTED, PAIRS = "dense", "selected", "pairs"

Modify = Callable[[Tensor, Tensor, Tensor, Tensor, Tensor], Tensor]


def attend_biased(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None = None) -> Tensor:
    """Fast path of `biased.attend_biased`, with the same signature and result."""
    queries, add_bias = _pad_queries(q), _bias_function(k, bias)
    out = compiled_kernel(DENSE)(*to_compute_dtype(queries, k, v), score_mod=add_bias)
    return out[:, :, : q.shape[2]].to(q.dtype)


def attend_selected(  # noqa: PLR0913
    q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, selection: KeySelection, query_block: int
) -> Tensor:
    """Fast path of `selected.attend_selected`, with the same signature and result.

    A table of query blocks by key blocks says who reads what. Key blocks that no query of a block
    reads are not computed, nor are heads outside `selection`.
    """
    queries, add_bias = _pad_queries(q), _bias_function(k, bias)
    mask = _block_mask(selection, k.shape[2], query_block, queries.shape[2])
    out = compiled_kernel(SELECTED)(
        *to_compute_dtype(queries, k, v), score_mod=add_bias, block_mask=mask,
        kernel_options=kernel_options(q.dtype, query_block),
    )  # fmt: skip
    return out[selection.rows, selection.heads, : q.shape[2]].to(q.dtype)


def kernel_options(dtype: torch.dtype, query_block: int) -> dict[str, int]:
    """What the kernel must know of a mask's blocks of queries: torch's defaults may not divide
    them. On a CPU it has no effect.
    """
    most = QUERIES_AT_ONCE_WIDE if dtype is torch.float32 else QUERIES_AT_ONCE
    return {"BLOCK_M": min(query_block, most)}


def block_table(selection: KeySelection) -> Tensor:
    """Which key blocks each query block reads, (b, n, query blocks, key blocks + 2) bool.

    The last column but one stands for the keys that are always read, the last for all other keys.
    """
    blocks, chosen = selection.tokens.shape[2], selection.chosen
    table = torch.zeros(*chosen.shape[:3], blocks + 2, dtype=torch.bool, device=chosen.device)
    selected = torch.zeros_like(table[..., :1])
    selected[selection.rows, selection.heads] = True
    table.scatter_(3, chosen.long(), value=True)
    table[..., blocks] = True
    return table & selected


def key_columns(selection: KeySelection, keys: int) -> Tensor:
    """The column (b, n, keys) of `block_table` that each of `keys` belongs to."""
    b, n, blocks, width = selection.tokens.shape
    numbers = selection.tokens.flatten(2)
    numbers = numbers.masked_fill(numbers < 0, keys)
    blocks_of_numbers = torch.arange(blocks, device=numbers.device).repeat_interleave(width)
    column = numbers.new_full((b, n, keys + 1), blocks + 1)
    column.scatter_(2, numbers, blocks_of_numbers.expand(b, n, -1))
    column[:, :, selection.always] = blocks
    return column[..., :keys].contiguous()


def _block_mask(selection: KeySelection, keys: int, query_block: int, queries: int) -> BlockMask:
    """The selection as FlexAttention's mask, whose blocks are of neighbouring keys."""
    table, column = block_table(selection), key_columns(selection, keys)
    columns, groups = table.shape[3], -(-keys // KEY_BLOCK)
    membership = torch.zeros(*column.shape[:2], columns * groups, device=column.device)
    group = torch.arange(keys, device=column.device) // KEY_BLOCK
    membership.scatter_(2, column * groups + group, 1.0)
    used = table.float() @ membership.unflatten(2, (columns, groups)) > 0
    order = used.int().argsort(dim=-1, descending=True, stable=True).int()

    def visible(b: Tensor, n: Tensor, query: Tensor, key: Tensor) -> Tensor:
        return table[b, n, query // query_block, column[b, n, key]]

    return BlockMask.from_kv_blocks(
        used.sum(-1).int(), order, BLOCK_SIZE=(query_block, KEY_BLOCK), mask_mod=visible,
        seq_lengths=(queries, keys), **forward_only(),
    )  # fmt: skip


@functools.cache
def forward_only() -> dict[str, Any]:
    """What makes a BlockMask without the tables of a backward pass; older torch always has them."""
    name = "compute_q_blocks"
    return {name: False} if name in inspect.signature(BlockMask.from_kv_blocks).parameters else {}


def _pad_queries(x: Tensor) -> Tensor:
    """On a CPU x (b, n, s, d) padded to 2 queries: generated C++ for 1 fails (torch 2.13)."""
    missing = 2 - x.shape[2] if x.device.type == "cpu" else 0
    return F.pad(x, (0, 0, 0, missing)) if missing > 0 else x


def to_compute_dtype(*tensors: Tensor) -> tuple[Tensor, ...]:
    """On a CPU in float32: generated C++ for half precision does not compile (torch 2.13)."""
    return tuple(x.float() if x.device.type == "cpu" else x for x in tensors)


def _bias_function(k: Tensor, bias: Tensor | None) -> Modify:
    """Add each key's bias to its logits; one function for all cases, so it compiles once."""
    biases = k.new_zeros(k.shape[:3], dtype=torch.float32)
    if bias is not None:
        biases = F.pad(bias, (0, k.shape[2] - bias.shape[2]))

    def modify(score: Tensor, b: Tensor, n: Tensor, _query: Tensor, key: Tensor) -> Tensor:
        return score + biases[b, n, key]

    return modify


def compiled_kernel(kind: str) -> Callable[..., Tensor]:
    """FlexAttention, compiled separately for each kind of call; raises if it cannot compile."""

    def call(*tensors: Tensor, **more: object) -> Tensor:
        with torch._dynamo.config.patch(recompile_limit=COMPILED_FORMS):
            out: Tensor = _compile(kind, tensors[0].device.type)(*tensors, **more)
            return out

    return call


@functools.cache
def _compile(_kind: str, device: str) -> Callable[..., Tensor]:
    """Compile FlexAttention; on a CPU for each size separately.

    Generated C++ for dynamic sizes does not compile there: torch 2.13 substitutes the name of one
    size inside the longer name of another.
    """
    return torch.compile(flex_attention, dynamic=device != "cpu", fullgraph=True)
