"""Attention of blocks of queries, each over keys of its own choice, in stock operations.

Keys are gathered block of queries by block of queries, then attended to by the fused kernels: the
portable path of block-sparse attention. Here tensors are (b, n, s, d).
"""

from __future__ import annotations

import torch
from torch import Tensor

from .biased import attend_biased


def attend_selected(  # noqa: PLR0913
    q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, tokens: Tensor, query_block: int
) -> Tensor:
    """Queries [i query_block, (i + 1) query_block) of q attend to the keys `tokens`[:, :, i].

    q (b, n, s, d); k, v (b, n, t, d) whose d is contiguous; `bias` (b, n, t); `tokens`
    (b, n, blocks, m) are key numbers, -1 for none. The result of a block with none at all is 0.
    """
    heads = q.shape[0] * q.shape[1]
    flat_k, flat_v = _rows(k), _rows(v)
    made = []
    for block in range(tokens.shape[2]):
        wanted = tokens[:, :, block]  # (b, n, m)
        there = wanted.clamp(min=0)
        rows_k, rows_v = (_row_numbers(x, there).flatten() for x in (k, v))
        keys = flat_k.index_select(0, rows_k).view(1, heads, -1, q.shape[-1])
        values = flat_v.index_select(0, rows_v).view(1, heads, -1, q.shape[-1])
        of_keys = None if bias is None else bias.gather(2, there)
        some_missing = wanted.is_meta or bool((wanted < 0).any())  # a rehearsal: the most it can be
        if some_missing:
            of_keys = k.new_zeros(wanted.shape) if of_keys is None else of_keys
            of_keys = of_keys.masked_fill(wanted < 0, -torch.inf)
        asking = q[:, :, block * query_block : (block + 1) * query_block]
        part = attend_biased(
            asking.reshape(1, heads, -1, q.shape[-1]),
            keys,
            values,
            None if of_keys is None else of_keys.reshape(1, heads, -1),
        )
        part = part.view(asking.shape)
        if some_missing:  # where all keys are hidden, kernels disagree on what is left
            part = part.masked_fill((wanted < 0).all(-1)[..., None, None], 0)
        made.append(part)
    return torch.cat(made, 2)


def _rows(x: Tensor) -> Tensor:
    """The memory behind x (b, n, t, d), whose d is contiguous, as rows of d, without a copy."""
    d = x.shape[-1]
    last = sum((size - 1) * stride for size, stride in zip(x.shape, x.stride(), strict=True))
    return x.as_strided(((last + 1) // d, d), (d, 1))


def _row_numbers(x: Tensor, tokens: Tensor) -> Tensor:
    """Which of `_rows(x)` hold `tokens` (b, n, m)."""
    b, n, t, _ = (stride // x.shape[-1] for stride in x.stride())
    batch = torch.arange(x.shape[0], device=x.device).view(-1, 1, 1) * b
    head = torch.arange(x.shape[1], device=x.device).view(1, -1, 1) * n
    return batch + head + tokens * t
