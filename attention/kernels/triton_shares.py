"""The estimated attention of queries to blocks of keys as one Triton kernel, without a table of it.

Stock operations write the shares of every query in memory several times. Here a block of queries
sums its own in two sweeps over the means of the key blocks: the sums of its softmax, then shares.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from .triton_selected import LOG2_E

BLOCKS_AT_ONCE = 64


@triton.jit
def _logits(  # noqa: PLR0913
    q, means_ptr, mass_ptr, head_at, place, d, blocks, scale, width: tl.constexpr
):  # fmt: skip
    """The logits of queries q and the key blocks at `place`, in units of ln 2."""
    columns = tl.arange(0, width)
    at = means_ptr + (head_at + place[:, None]) * d + columns[None, :]
    mean = tl.load(at, mask=(place[:, None] < blocks) & (columns[None, :] < d), other=0.0)
    mass = tl.load(mass_ptr + head_at + place, mask=place < blocks, other=float("-inf"))
    products = tl.dot(q, tl.trans(mean), input_precision="ieee")
    return products * (scale * LOG2_E) + (mass * LOG2_E)[None, :]


@triton.jit
def _shares(  # noqa: PLR0913
    q_ptr, means_ptr, mass_ptr, out_ptr, s, d, heads, blocks, scale, q_b, q_n, q_s,
    query_block: tl.constexpr, key_block: tl.constexpr, width: tl.constexpr,
):  # fmt: skip
    block, pair = tl.program_id(0), tl.program_id(1).to(tl.int64)
    queries = block * query_block + tl.arange(0, query_block)
    columns = tl.arange(0, width)
    inside = (queries[:, None] < s) & (columns[None, :] < d)
    at = q_ptr + pair // heads * q_b + pair % heads * q_n + queries[:, None] * q_s + columns
    q = tl.load(at, mask=inside, other=0.0)
    high = tl.full((query_block,), float("-inf"), tl.float32)
    total = tl.zeros((query_block,), tl.float32)
    for first in range(0, blocks, key_block):
        place = first + tl.arange(0, key_block)
        logits = _logits(q, means_ptr, mass_ptr, pair * blocks, place, d, blocks, scale, width)
        higher = tl.maximum(high, tl.max(logits, 1))
        shift = tl.where(higher == float("-inf"), 0.0, higher)
        total = total * tl.exp2(high - shift) + tl.sum(tl.exp2(logits - shift[:, None]), 1)
        high = higher
    weight = tl.where(queries < s, 1.0 / total, 0.0)  # queries outside have no share
    for first in range(0, blocks, key_block):
        place = first + tl.arange(0, key_block)
        logits = _logits(q, means_ptr, mass_ptr, pair * blocks, place, d, blocks, scale, width)
        shares = tl.exp2(logits - high[:, None]) * weight[:, None]
        to = out_ptr + (pair * tl.num_programs(0) + block) * blocks + place
        tl.store(to, tl.sum(shares, 0), mask=place < blocks)


def sum_shares(q: Tensor, means: Tensor, log_mass: Tensor, query_block: int) -> Tensor:
    """The summed shares (b, n, query blocks, blocks) of each block of queries of q (b, n, s, d).

    `means` (b, n, blocks, d) and `log_mass` (b, n, blocks) are float32; in half precision the means
    are rounded to that of q. d must be contiguous, and some block must have mass.
    """
    b, n, s, d = q.shape
    blocks = means.shape[2]
    summed = torch.empty(b, n, -(-s // query_block), blocks, device=q.device)
    _shares[(summed.shape[2], b * n)](
        q, means.to(q.dtype).contiguous(), log_mass.contiguous(), summed, s, d, n, blocks, d**-0.5,
        *q.stride()[:3], query_block, BLOCKS_AT_ONCE, max(16, triton.next_power_of_2(d)),
        num_warps=4, num_stages=2 if q.element_size() == 2 else 1,
    )  # fmt: skip
    return summed
