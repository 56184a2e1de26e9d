"""`attend_selected` as one Triton kernel: keys are gathered inside it and never copied.

The running softmax of FlashAttention (arXiv 2205.14135) over a list of keys for each block of
queries, with a bias (log mass) for each key. Triton is an optional package; its interpreter runs
the kernel on a CPU. Float32 products are IEEE, not TF32, Triton's default on NVIDIA. On an H100 a
chunk takes longer by it than by cuDNN's kernel over all keys, so `auto` never chooses it.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from .blockwise import Part
from .key_selection import KeySelection

LOG2_E, LN_2 = tl.constexpr(1.4426950408889634), tl.constexpr(0.6931471805599453)
KEYS_AT_ONCE, KEYS_AT_ONCE_HALF = 32, 128
"""Keys that the kernel takes in a step, and in half precision where they fit. On an H100 128 in one
stage were the fastest of twelve ways for blocks of 64 queries: 4.7 ms, the others from 6.2 to 13.
Blocks of 128 queries took 5.6 ms or more.
"""
FITTING = 8, 0
"""Compute capability from which 128 keys in half precision fit the shared memory."""
FITTING_WIDTH = 128
STAGES = 1


@triton.jit
def _selected(  # noqa: PLR0913
    q_ptr, k_ptr, v_ptr, bias_ptr, tokens_ptr, chosen_ptr, always_ptr, rows_ptr, heads_ptr,
    out_ptr, lse_ptr, s, d, picked, m, scale,
    q_b, q_n, q_s, k_b, k_n, k_t, v_b, v_n, v_t, bias_b, bias_n, tokens_b, tokens_n,
    chosen_b, chosen_n, chosen_q,
    has_bias: tl.constexpr, query_block: tl.constexpr, block_keys: tl.constexpr,
    key_block: tl.constexpr, width: tl.constexpr,
):  # fmt: skip
    block, pair = tl.program_id(0), tl.program_id(1)
    b, n = tl.load(rows_ptr + pair), tl.load(heads_ptr + pair)  # int64: no product overflows
    block_list = chosen_ptr + b * chosen_b + n * chosen_n + block * chosen_q
    queries = block * query_block + tl.arange(0, query_block)
    columns = tl.arange(0, width)
    inside = (queries[:, None] < s) & (columns[None, :] < d)
    at = q_ptr + b * q_b + n * q_n + queries[:, None] * q_s + columns[None, :]
    q = tl.load(at, mask=inside, other=0.0)
    k_head, v_head = k_ptr + b * k_b + n * k_n, v_ptr + b * v_b + n * v_n
    high = tl.full((query_block,), float("-inf"), tl.float32)
    total = tl.zeros((query_block,), tl.float32)
    sums = tl.zeros((query_block, width), tl.float32)
    for first in range(0, m, key_block):
        place = first + tl.arange(0, key_block)
        number = tl.load(block_list + place // block_keys, mask=place < picked, other=0)
        listed = tokens_ptr + b * tokens_b + n * tokens_n + number * block_keys + place % block_keys
        token = tl.load(listed, mask=place < picked, other=-1)
        always = (place >= picked) & (place < m)
        token = tl.where(always, tl.load(always_ptr + place - picked, mask=always, other=-1), token)
        valid = token >= 0
        rows = valid[:, None] & (columns[None, :] < d)
        k = tl.load(k_head + token[:, None] * k_t + columns[None, :], mask=rows, other=0.0)
        v = tl.load(v_head + token[:, None] * v_t + columns[None, :], mask=rows, other=0.0)
        added = tl.where(valid, 0.0, float("-inf"))
        if has_bias:
            key_bias = bias_ptr + b * bias_b + n * bias_n + token
            added += tl.load(key_bias, mask=valid, other=0.0) * LOG2_E
        # logits in units of ln 2: 2 ** x is a GPU's own instruction
        logits = tl.dot(q, tl.trans(k), input_precision="ieee") * (scale * LOG2_E) + added[None, :]
        higher = tl.maximum(high, tl.max(logits, 1))
        shift = tl.where(higher == float("-inf"), 0.0, higher)
        weights = tl.exp2(logits - shift[:, None])
        rescale = tl.exp2(high - shift)
        total = total * rescale + tl.sum(weights, 1)
        sums = tl.dot(weights.to(v.dtype), v, sums * rescale[:, None], input_precision="ieee")
        high = higher
    total = tl.where(total == 0.0, 1.0, total)
    at = out_ptr + (pair.to(tl.int64) * s + queries[:, None]) * d + columns[None, :]
    tl.store(at, (sums / total[:, None]).to(out_ptr.dtype.element_ty), mask=inside)
    tl.store(lse_ptr + pair * s + queries, high * LN_2 + tl.log(total), mask=queries < s)


def attend_selected_part(  # noqa: PLR0913
    q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, selection: KeySelection, query_block: int
) -> Part:
    """Compute `attend_selected` (p, s, d) with `lse` (p, s), -inf where a block reads no key.

    d must be contiguous in all tensors, and `query_block` a power of 2 of at least 16.
    """
    return _attend(q, k, v, bias, selection, query_block, torch.float32)


def _attend(  # noqa: PLR0913
    q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, selection: KeySelection,
    query_block: int, dtype: torch.dtype,
) -> Part:  # fmt: skip
    """`attend_selected_part` with its result in `dtype`."""
    s, d = q.shape[2:]
    out = torch.empty(len(selection.rows), s, d, dtype=dtype, device=q.device)
    lse = torch.empty(len(selection.rows), s, dtype=torch.float32, device=q.device)
    tokens, chosen = selection.tokens.contiguous(), selection.chosen.contiguous()
    block_keys = selection.block_keys
    biases = q.new_zeros(1, 1, 1).float() if bias is None else bias.float().contiguous()
    _selected[(selection.query_blocks, len(selection.rows))](
        q, k, v, biases, tokens, chosen, selection.always, selection.rows, selection.heads,
        out, lse, s, d, chosen.shape[3] * block_keys, selection.keys, d**-0.5,
        *q.stride()[:3], *k.stride()[:3], *v.stride()[:3], *biases.stride()[:2],
        *tokens.stride()[:2], *chosen.stride()[:3],
        bias is not None, query_block, block_keys, keys_at_once(q),
        max(16, triton.next_power_of_2(d)), num_stages=STAGES,
    )  # fmt: skip
    return Part(out, lse)


def keys_at_once(q: Tensor) -> int:
    """How many keys the kernel takes in a step for queries like q."""
    is_small = q.element_size() == 2 and q.shape[-1] <= FITTING_WIDTH
    fits = not q.is_cuda or torch.cuda.get_device_capability(q.device) >= FITTING
    return KEYS_AT_ONCE_HALF if is_small and fits else KEYS_AT_ONCE


def attend_selected(  # noqa: PLR0913
    q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, selection: KeySelection, query_block: int
) -> Tensor:
    """Fast path of `selected.attend_selected`, with the same signature and result."""
    return _attend(q, k, v, bias, selection, query_block, q.dtype).out
