"""Attention of blocks of queries, each over keys of its own choice, in stock operations.

Keys are gathered block of queries by block of queries, then attended to by the fused kernels: the
portable path of block-sparse attention. Here tensors are (b, n, s, d).
"""

from __future__ import annotations

import torch
from torch import Tensor

from .biased import attend_biased
from .key_selection import Read


def attend_selected(  # noqa: PLR0913
    q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, read: Read, query_block: int
) -> Tensor:
    """Queries [i query_block, (i + 1) query_block) of q attend to what block i of `read` reads.

    q (b, n, s, d); k, v (b, n, t, d) whose d is contiguous; `bias` (b, n, t). The result is
    (p, s, d), of the p heads of `read` alone; of a block that reads no key at all it is 0.
    """
    d, flat_k, flat_v = q.shape[-1], _rows(k), _rows(v)
    made = []
    for block in range(read.query_blocks):
        wanted = read.of(torch.arange(block, block + 1, device=q.device)).squeeze(1)  # (p, m)
        there = wanted.clamp(min=0)
        rows_k, rows_v = (_row_numbers(x, read, there).flatten() for x in (k, v))
        keys = flat_k.index_select(0, rows_k).view(1, *wanted.shape, d)
        values = flat_v.index_select(0, rows_v).view(1, *wanted.shape, d)
        of_keys = None
        if bias is not None:
            of_keys = bias[read.rows[:, None], read.heads[:, None], there]
        some_missing = wanted.is_meta or bool((wanted < 0).any())  # a rehearsal: the most it can be
        if some_missing:
            of_keys = k.new_zeros(wanted.shape) if of_keys is None else of_keys
            of_keys = of_keys.masked_fill(wanted < 0, -torch.inf)
        asking = q[read.rows, read.heads, block * query_block : (block + 1) * query_block]
        part = attend_biased(
            asking[None], keys, values, None if of_keys is None else of_keys[None]
        )[0]
        if some_missing:  # where all keys are hidden, kernels disagree on what is left
            part = part.masked_fill((wanted < 0).all(-1)[:, None, None], 0)
        made.append(part)
    return torch.cat(made, 1)


def _rows(x: Tensor) -> Tensor:
    """The memory behind x (b, n, t, d), whose d is contiguous, as rows of d, without a copy."""
    d = x.shape[-1]
    last = sum((size - 1) * stride for size, stride in zip(x.shape, x.stride(), strict=True))
    return x.as_strided(((last + 1) // d, d), (d, 1))


def _row_numbers(x: Tensor, read: Read, tokens: Tensor) -> Tensor:
    """Which of `_rows(x)` hold the `tokens` (p, m) of the heads of `read`."""
    b, n, t, _ = (stride // x.shape[-1] for stride in x.stride())
    return (read.rows * b + read.heads * n).unsqueeze(1) + tokens * t
