"""The same attention in stock operations: blocks of keys are gathered, then attended to densely.

Blocks of queries that read about equally many blocks of keys go together, so that little is
padded. The numbers of blocks are read back from the device once a call.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from ..kernels.fused import fused_attention

GATHERED_BYTES = 2**28
"""Bytes of gathered keys and values at once, at least those of one block of queries."""


def attend_pairs(
    q: Tensor, k: Tensor, v: Tensor, reads: Tensor, at_once_bytes: int = GATHERED_BYTES
) -> Tensor:
    """Fast path of `masked.attend_pairs`, with the same result."""
    n, blocks, tokens, d = q.shape
    counts, order = reads.flatten(0, 1).sum(-1).sort(stable=True)
    first_head = torch.arange(n, device=q.device).repeat_interleave(blocks) * k.shape[1]
    key_blocks = reads.flatten(0, 1).int().argsort(dim=-1, descending=True, stable=True)
    queries, keys, values = q.flatten(0, 1), k.flatten(0, 1), v.flatten(0, 1)
    out = torch.zeros_like(queries)
    block_bytes = 2 * tokens * d * k.element_size()
    for rows, most in _batches(_numbers(counts, k), max(1, at_once_bytes // block_bytes)):
        at = order[rows]
        picked = key_blocks[at, :most]  # (p, most)
        number = (picked + first_head[at, None]).flatten()
        near_k, near_v = (x.index_select(0, number).view(len(at), 1, -1, d) for x in (keys, values))
        rank = torch.arange(most, device=q.device)
        reading = (rank < counts[rows, None]).repeat_interleave(tokens, 1)[:, None, None]
        part = fused_attention(queries[at][:, None], near_k, near_v, reading)
        out[at] = part[:, 0]
    return out.view(q.shape)


def _numbers(counts: Tensor, k: Tensor) -> list[int]:
    """The counts on the host; without numbers (`meta`), as if every row read all blocks."""
    return [k.shape[1]] * len(counts) if counts.is_meta else counts.tolist()


def _batches(counts: list[int], limit: int) -> Iterator[tuple[slice, int]]:
    """Runs of rising `counts`, and the largest of each, that gather at most `limit` blocks.

    Rows that read nothing are left out.
    """
    start = next((i for i, count in enumerate(counts) if count), len(counts))
    while start < len(counts):
        stop = start + 1
        while stop < len(counts) and (stop + 1 - start) * counts[stop] <= limit:
            stop += 1
        yield slice(start, stop), counts[stop - 1]
        start = stop
