"""The same attention in stock operations: pages of keys are gathered, then attended to densely.

The parts of a block of queries are combined by their log-sum-exps, which is exact. No number is
read back from the device: all sizes follow from how many pairs there can be. Beside q, k, v and the
result there are at most GATHERED_BYTES of keys and values, or as much to combine, and the parts of
one head.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..kernels.blockwise import Part
from ..kernels.fused import fused_part
from .choice import BlockPairs
from .pages import Pages, to_pages

PAGE_BLOCKS = 16
"""Blocks of keys in a page: few, so that little is read in vain; and enough for a fused kernel."""
GATHERED_BYTES = 2**28
"""Bytes of gathered keys and values at once, at least those of one page."""


def attend_pairs(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    pairs: BlockPairs,
    page_blocks: int = PAGE_BLOCKS,
    at_once_bytes: int = GATHERED_BYTES,
) -> Tensor:
    """Fast path of `masked.attend_pairs`, with the same result."""
    pages, out = to_pages(pairs, page_blocks), torch.empty_like(q)
    heads = range(1 if q.is_meta else len(q))  # a rehearsal: each head takes the same
    for head in heads:
        part = _attend_pages(q[head], k[head], v[head], pages, head, at_once_bytes)
        _combine(out[head], part, pages, head, at_once_bytes)
        del part  # or the next head would run beside it
    return out


def _attend_pages(  # noqa: PLR0913
    q: Tensor, k: Tensor, v: Tensor, pages: Pages, head: int, at_once_bytes: int
) -> Part:
    """Attention of one head's blocks of queries to each page: (pages, 128, d) and (pages, 128)."""
    query, chosen, is_read = pages.query[head], pages.keys[head], pages.is_read[head]
    width, (_, tokens, d) = chosen.shape[1], q.shape
    out = q.new_empty(len(query), tokens, d)
    lse = q.new_empty(len(query), tokens, dtype=torch.float32)
    step = max(1, at_once_bytes // (2 * width * tokens * d * k.element_size()))
    for first in range(0, len(query), step):
        at = slice(first, first + step)
        numbers = chosen[at].flatten()
        keys, values = (x.index_select(0, numbers).view(-1, 1, width * tokens, d) for x in (k, v))
        queries = q.index_select(0, query[at]).unsqueeze(1)
        part = fused_part(queries, keys, values, is_read[at].repeat_interleave(tokens, 1))
        out[at], lse[at] = part.out[:, 0], part.lse[:, 0]
        del keys, values, queries, part  # or the next pages would be gathered beside them
    return Part(out, lse)


def _combine(out: Tensor, part: Part, pages: Pages, head: int, at_once_bytes: int) -> None:
    """Write the sum of each block's parts, by their shares, into `out` (query blocks, 128, d)."""
    number = torch.arange(pages.most, device=out.device)
    at = (pages.first[head][:, None] + number).clamp(max=len(part.lse) - 1)  # (query blocks, most)
    is_missing = number >= pages.count[head][:, None]
    # in float32, twice: the parts, and what they contribute
    step = max(1, at_once_bytes // (2 * pages.most * out[0].numel() * 4))
    for first in range(0, len(out), step):
        rows = slice(first, first + step)
        lse = part.lse[at[rows]].masked_fill(is_missing[rows, :, None], -torch.inf)
        shares = lse.softmax(1).nan_to_num()  # a block that reads nothing has no shares
        out[rows] = (part.out[at[rows]].float() * shares.unsqueeze(-1)).sum(1)
