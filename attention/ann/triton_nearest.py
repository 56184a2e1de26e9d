"""`bucketed_nearest` as one Triton kernel: one program per new key walks through its buckets.

Triton is an optional package; its interpreter runs the kernel on a CPU. The kernel has not been
measured on a GPU yet, so `auto` never chooses it.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
import triton
import triton.language as tl
from torch import Tensor

from .buckets import bucket_ranges
from .nearest import CodedKeys, Nearest

KEY_BLOCK = 32


@triton.jit
def _nearest(  # noqa: PLR0913
    new_ptr, keys_ptr, order_ptr, first_ptr, past_ptr, similarity_ptr, number_ptr,
    s, t, d, keys_b, keys_n, keys_t, heads,
    probes: tl.constexpr, key_block: tl.constexpr, width: tl.constexpr,
):  # fmt: skip
    token, row = tl.program_id(0), tl.program_id(1)
    b, n = row // heads, row % heads
    columns = tl.arange(0, width)
    new = tl.load(new_ptr + (row * s + token) * d + columns, mask=columns < d, other=0.0)
    best, nearest = float("-inf"), tl.full((), 0, tl.int64)  # like `order`
    for probe in range(probes):
        bucket = (row * s + token) * probes + probe
        first, past = tl.load(first_ptr + bucket), tl.load(past_ptr + bucket)
        for start in range(first, past, key_block):
            place = start + tl.arange(0, key_block)
            valid = place < past
            number = tl.load(order_ptr + row * t + place, mask=valid, other=0)
            at = keys_ptr + b * keys_b + n * keys_n + number[:, None] * keys_t + columns[None, :]
            keys = tl.load(at, mask=valid[:, None] & (columns[None, :] < d), other=0.0)
            keys = keys.to(tl.float32)
            size = tl.sqrt(tl.sum(keys * keys, 1))
            cosine = tl.sum(keys * new[None, :], 1) / tl.maximum(size, 1e-12)
            cosine = tl.where(valid, cosine, float("-inf"))
            higher = tl.max(cosine, 0)
            where = tl.argmax(cosine, 0)
            chosen = tl.sum(tl.where(tl.arange(0, key_block) == where, number, 0), 0)
            nearest = tl.where(higher > best, chosen, nearest)
            best = tl.maximum(best, higher)
    tl.store(similarity_ptr + row * s + token, best)
    tl.store(number_ptr + row * s + token, nearest)


def bucketed_nearest(new: Tensor, probes: Tensor, cached: CodedKeys) -> Nearest:
    """Fast path of `ann.buckets.bucketed_nearest`, with the same signature and result."""
    b, n, s, d = new.shape
    order, first, past = bucket_ranges(probes, cached)
    unit = F.normalize(new.float(), dim=-1).contiguous()
    similarity = torch.empty(b, n, s, device=new.device)
    number = torch.empty(b, n, s, dtype=torch.int64, device=new.device)
    _nearest[(s, b * n)](
        unit, cached.keys, order.contiguous(), first.contiguous(), past.contiguous(),
        similarity, number, s, order.shape[2], d, *cached.keys.stride()[:3], n,
        probes.shape[3], KEY_BLOCK, max(16, triton.next_power_of_2(d)),
    )  # fmt: skip
    return Nearest(similarity, number)
