"""What kernels are compared with: attention written out in float64, and how far off they may be."""

from __future__ import annotations

import torch
from torch import Tensor

from longtake.attention.kernels.choice import AttendSelected
from longtake.attention.kernels.key_selection import select_for_all_heads
from longtake.tests.support.tiny_model import randn

DTYPES = (torch.float32, torch.float16, torch.bfloat16)


def formula(
    q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None = None, seen: Tensor | None = None
) -> Tensor:
    """Softmax attention of q (b, n, s, d) over k, v (b, n, t, d), `bias` (b, n, t) on a key's
    logits, where `seen` (b, n, s, t); 0 for a query that sees nothing.
    """
    logits = q.double() @ k.double().transpose(2, 3) / q.shape[-1] ** 0.5
    if bias is not None:
        logits = logits + bias.double().unsqueeze(2)
    if seen is not None:
        logits = logits.masked_fill(~seen, -torch.inf)
    return logits.softmax(-1).nan_to_num(0.0) @ v.double()


def visible_keys(tokens: Tensor, query_block: int, queries: int, keys: int) -> Tensor:
    """Who sees whom (b, n, s, t) where blocks of queries read `tokens` (b, n, blocks, m)."""
    of_blocks = torch.zeros(*tokens.shape[:3], keys, dtype=torch.bool)
    for b, n, block in torch.cartesian_prod(*map(torch.arange, tokens.shape[:3])).tolist():
        chosen = tokens[b, n, block]
        of_blocks[b, n, block, chosen[chosen >= 0]] = True
    return of_blocks.repeat_interleave(query_block, 2)[:, :, :queries]


def farthest_off(q: Tensor, k: Tensor, v: Tensor) -> float:
    """The most that a kernel's rounding explains.

    Logits are sums in float32: a weight is off by as much, relative to itself. Weights and the
    result are rounded to the inputs' dtype, once each.
    """
    sums = (q.double().abs() @ k.double().abs().transpose(2, 3)).max() / q.shape[-1] ** 0.5
    exact, rounded = (torch.finfo(dtype).eps for dtype in (torch.float32, q.dtype))
    return float((4 * exact * (1 + sums) + rounded) * v.double().abs().max())


def qkv(queries: int, keys: int, d: int, dtype: torch.dtype) -> list[Tensor]:
    """Seeded q, k, v (2, 2, ., d); k and v are laid out as a cache has them."""
    laid = (randn(2, keys + 3, 2, d, seed=i).to(dtype).transpose(1, 2) for i in (1, 2))
    return [randn(2, 2, queries, d).to(dtype), *(x[:, :, 2:-1] for x in laid)]


def masses(keys: int) -> Tensor:
    """Seeded logs of masses (2, 2, t) of up to a prompt's padding, some keys hidden."""
    bias = (500 * randn(2, 2, keys, seed=4).abs() / 3 + 1).log()
    bias[..., 1::5] = -torch.inf
    return bias


def attend_tokens(  # noqa: PLR0913
    attend: AttendSelected, q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, tokens: Tensor,
    query_block: int,
) -> Tensor:  # fmt: skip
    """A kernel's attention (b, n, s, d) where blocks of queries read `tokens` (b, n, blocks, m), -1
    for none: every key is a block of its own, and no key is one more.
    """
    b, n, keys = *q.shape[:2], k.shape[2]
    blocks = torch.arange(keys + 1, device=q.device).view(-1, 1).expand(b, n, -1, -1).clone()
    blocks[:, :, keys] = -1
    chosen = tokens.masked_fill(tokens < 0, keys).int()
    read = select_for_all_heads(blocks, chosen, blocks.new_zeros(0))
    return attend(q, k, v, bias, read, query_block).view(q.shape)


def random_keys(blocks: int, keys: int, count: int) -> Tensor:
    """Seeded numbers (2, 2, blocks, count) of the keys that blocks of queries read, -1 for none:
    the last block reads one key alone, the first of the second head nothing at all.
    """
    tokens = randn(2, 2, blocks, keys, seed=3).argsort(-1)[..., :count].clone()
    tokens[..., 1::3] = -1
    tokens[:, :, -1, 1:] = -1
    tokens[:, 1, 0] = -1
    return tokens
