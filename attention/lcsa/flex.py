"""The same attention by PyTorch's FlexAttention, which reads the chosen blocks where they lie.

Each block of keys is read whole or not at all, so nothing is masked within one. The counts of
chosen blocks stay on the device.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.attention.flex_attention import BlockMask

from ..kernels.flex import PAIRS, compiled_kernel, forward_only, to_compute_dtype
from .choice import BlockPairs

Kernel = Callable[..., Tensor]
"""FlexAttention, compiled or not."""


def attend_pairs(
    q: Tensor, k: Tensor, v: Tensor, pairs: BlockPairs, kernel: Kernel | None = None
) -> Tensor:
    """Fast path of `masked.attend_pairs`, with the same result."""
    run = kernel or compiled_kernel(PAIRS)
    tokens = (x.flatten(1, 2).unsqueeze(0) for x in (q, k, v))  # (1, n, s, d)
    out = run(*to_compute_dtype(*tokens), block_mask=block_mask(pairs.table, q.shape[2]))
    return out.view(q.shape).to(q.dtype)


def block_mask(table: Tensor, block_tokens: int) -> BlockMask:
    """The table (n, query blocks, key blocks) as FlexAttention's mask, all of whole blocks."""
    counts = table.sum(-1, dtype=torch.int32).unsqueeze(0)
    order = table.int().argsort(dim=-1, descending=True, stable=True).int().unsqueeze(0)

    def visible(_row: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        return table[head, query // block_tokens, key // block_tokens]

    return BlockMask.from_kv_blocks(
        torch.zeros_like(counts), torch.zeros_like(order), counts, order,  # none in part
        BLOCK_SIZE=(block_tokens, block_tokens), mask_mod=visible,
        seq_lengths=(table.shape[1] * block_tokens, table.shape[2] * block_tokens),
        **forward_only(),
    )  # fmt: skip
