"""Attention of blocks of queries, each over its own selection of keys, in stock operations.

The portable path of block-sparse attention: for each block of queries, keys are gathered and then
attended to by the fused kernels. Tensors are (b, n, s, d).
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..pieces import collect_pieces
from .biased import attend_biased
from .key_selection import KeySelection


def attend_selected(  # noqa: PLR0913
    q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, selection: KeySelection, query_block: int
) -> Tensor:
    """Attend queries [i query_block, (i + 1) query_block) of q to the keys of query block i.

    q (b, n, s, d); k, v (b, n, t, d) whose d is contiguous; `bias` (b, n, t). The result (p, s, d)
    is of the p heads of `selection` only; it is 0 for a block that reads no key.
    """
    d, flat_k, flat_v = q.shape[-1], _rows(k), _rows(v)

    def attend_block(first: int) -> Tensor:
        at = slice(first, first + query_block)
        blocks = torch.arange(first // query_block, first // query_block + 1, device=q.device)
        key_numbers = selection.key_numbers(blocks).squeeze(1)  # (p, m)
        numbers = key_numbers.clamp(min=0)
        rows_k, rows_v = (_row_numbers(x, selection, numbers).flatten() for x in (k, v))
        keys = flat_k.index_select(0, rows_k).view(1, *key_numbers.shape, d)
        values = flat_v.index_select(0, rows_v).view(1, *key_numbers.shape, d)
        key_bias = None
        if bias is not None:
            key_bias = bias[selection.rows[:, None], selection.heads[:, None], numbers]
        # Meta: a rehearsal, which takes the worst case.
        some_missing = key_numbers.is_meta or bool((key_numbers < 0).any())
        if some_missing:
            key_bias = k.new_zeros(key_numbers.shape) if key_bias is None else key_bias
            key_bias = key_bias.masked_fill(key_numbers < 0, -torch.inf)
        queries = q[selection.rows, selection.heads, at]
        biases = None if key_bias is None else key_bias[None]
        part = attend_biased(queries[None], keys, values, biases)[0]
        if some_missing:  # kernels disagree on the result if all keys are hidden
            part = part.masked_fill((key_numbers < 0).all(-1)[:, None, None], 0)
        return part

    return torch.cat(collect_pieces(attend_block, q.shape[2], query_block, q, dim=1), 1)


def _rows(x: Tensor) -> Tensor:
    """The memory of x (b, n, t, d), whose d is contiguous, as rows of d; copies nothing."""
    d = x.shape[-1]
    last = sum((size - 1) * stride for size, stride in zip(x.shape, x.stride(), strict=True))
    return x.as_strided(((last + 1) // d, d), (d, 1))


def _row_numbers(x: Tensor, selection: KeySelection, tokens: Tensor) -> Tensor:
    """The rows of `_rows(x)` that hold the `tokens` (p, m) of the selected heads."""
    b, n, t, _ = (stride // x.shape[-1] for stride in x.stride())
    return (selection.rows * b + selection.heads * n).unsqueeze(1) + tokens * t
