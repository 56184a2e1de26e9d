"""Dense and selected attention with a bias for each key through PyTorch's FlexAttention.

FlexAttention compiles one fused kernel from a function of a logit (arXiv 2412.05496). Only compiled
does it never hold all logits, so it is used compiled or not at all: `backends.usable_backends` says
where that can be. Chosen by name. Here tensors are (b, n, s, d).
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention.flex_attention import BlockMask, flex_attention

from .key_selection import Read

KEY_BLOCK = 128
COMPILED_FORMS = 64  # sizes of 1 are compiled for themselves; torch gives up after 8
DENSE, SELECTED = "dense", "selected"

Modify = Callable[[Tensor, Tensor, Tensor, Tensor, Tensor], Tensor]


def attend_biased(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None = None) -> Tensor:
    """The same signature and result as `biased.attend_biased`."""
    asking, of_keys = _longer_than(1, q), _with_bias(k, bias)
    out = _compiled(DENSE)(*_computed_in(asking, k, v), score_mod=of_keys)
    return out[:, :, : q.shape[2]].to(q.dtype)


def attend_selected(  # noqa: PLR0913
    q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, read: Read, query_block: int
) -> Tensor:
    """The same signature and result as `selected.attend_selected`.

    Who reads a key is a table of blocks of queries by blocks of keys; what no query of a block
    reads is never computed, and of heads that `read` has not, nothing is.
    """
    asking, of_keys = _longer_than(1, q), _with_bias(k, bias)
    mask = _block_mask(read, k.shape[2], query_block, asking.shape[2])
    out = _compiled(SELECTED)(*_computed_in(asking, k, v), score_mod=of_keys, block_mask=mask)
    return out[read.rows, read.heads, : q.shape[2]].to(q.dtype)


def blocks_read(read: Read) -> Tensor:
    """Which blocks of keys each block of queries reads, (b, n, query blocks, key blocks + 2) bool:
    the last but one are the keys that are always read, the last those that are in no block.
    """
    blocks = read.tokens.shape[2]
    table = torch.zeros(
        *read.chosen.shape[:3], blocks + 2, dtype=torch.bool, device=read.chosen.device
    )
    mine = torch.zeros_like(table[..., :1])
    mine[read.rows, read.heads] = True
    table.scatter_(3, read.chosen.long(), value=True)
    table[..., blocks] = True
    return table & mine


def block_of_keys(read: Read, keys: int) -> Tensor:
    """The column (b, n, keys) of `blocks_read` that each of `keys` is in."""
    b, n, blocks, width = read.tokens.shape
    numbers = read.tokens.flatten(2).masked_fill(read.tokens.flatten(2) < 0, keys)
    of_numbers = torch.arange(blocks, device=numbers.device).repeat_interleave(width)
    column = numbers.new_full((b, n, keys + 1), blocks + 1)
    column.scatter_(2, numbers, of_numbers.expand(b, n, -1))
    column[:, :, read.always] = blocks
    return column[..., :keys].contiguous()


def _block_mask(read: Read, keys: int, query_block: int, queries: int) -> BlockMask:
    """FlexAttention's form of what is read, its own blocks being of neighbouring keys."""
    table, column = blocks_read(read), block_of_keys(read, keys)
    columns, groups = table.shape[3], -(-keys // KEY_BLOCK)
    held = torch.zeros(*column.shape[:2], columns * groups, device=column.device)
    group = torch.arange(keys, device=column.device) // KEY_BLOCK
    held.scatter_(2, column * groups + group, 1.0)
    used = table.float() @ held.unflatten(2, (columns, groups)) > 0
    order = used.int().argsort(dim=-1, descending=True, stable=True).int()

    def visible(b: Tensor, n: Tensor, query: Tensor, key: Tensor) -> Tensor:
        return table[b, n, query // query_block, column[b, n, key]]

    return BlockMask.from_kv_blocks(
        used.sum(-1).int(), order, BLOCK_SIZE=(query_block, KEY_BLOCK), mask_mod=visible,
        seq_lengths=(queries, keys), compute_q_blocks=False,
    )  # fmt: skip


def _longer_than(length: int, x: Tensor) -> Tensor:
    """On a CPU x (b, n, t, d) with so many tokens and one more, or what more it has: the C++ that
    is made for one query does not compile (torch 2.13).
    """
    missing = length + 1 - x.shape[2] if x.device.type == "cpu" else 0
    return F.pad(x, (0, 0, 0, missing)) if missing > 0 else x


def _computed_in(*tensors: Tensor) -> tuple[Tensor, ...]:
    """On a CPU in float32: the C++ made for halves of any size does not compile (torch 2.13)."""
    return tuple(x.float() if x.device.type == "cpu" else x for x in tensors)


def _with_bias(k: Tensor, bias: Tensor | None) -> Modify:
    """Always one and the same function of a logit, so that it is compiled once."""
    of_keys = k.new_zeros(k.shape[:3], dtype=torch.float32)
    if bias is not None:
        of_keys = F.pad(bias, (0, k.shape[2] - bias.shape[2]))

    def modify(score: Tensor, b: Tensor, n: Tensor, _query: Tensor, key: Tensor) -> Tensor:
        return score + of_keys[b, n, key]

    return modify


def _compiled(kind: str) -> Callable[..., Tensor]:
    """FlexAttention, compiled for each kind of call by itself; an error where it cannot be."""

    def call(*tensors: Tensor, **more: object) -> Tensor:
        with torch._dynamo.config.patch(recompile_limit=COMPILED_FORMS):
            made: Tensor = _fused(kind, tensors[0].device.type)(*tensors, **more)
            return made

    return call


@functools.cache
def _fused(_kind: str, device: str) -> Callable[..., Tensor]:
    """On a CPU for each size by itself: the C++ made for some blocks of any size does not compile
    (torch 2.13: in it, one name of a size is put in place of the front of another's).
    """
    return torch.compile(flex_attention, dynamic=device != "cpu", fullgraph=True)
