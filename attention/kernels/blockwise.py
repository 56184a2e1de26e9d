"""Attention in plain torch, one block of keys at a time, with log-sum-exps to combine parts.

The running softmax of FlashAttention (arXiv 2205.14135, algorithm 1) without its fusion. It is the
reference for kernels, and exact however keys are split into parts. At most (s, KEY_BLOCK) logits of
a head exist at once. Tensors are (b, n, s, d).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

KEY_BLOCK = 1024


@dataclass(frozen=True, slots=True)
class Part:
    """Attention over some keys: float32 `out` (b, n, s, d) and log-sum-exp `lse` (b, n, s).

    `lse` is -inf where a query saw no key.
    """

    out: Tensor
    lse: Tensor


def attend_part(
    q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None = None, *, key_block: int = KEY_BLOCK
) -> Part:
    """Attention of q (b, n, s, d) over k, v (b, n, t, d) with `bias` (b, n, t) on key logits."""
    out, lse = q.new_zeros(q.shape, dtype=torch.float32), q.new_full(q.shape[:-1], -torch.inf)
    part = Part(out, lse.float())
    for first in range(0, k.shape[2], key_block):
        at = slice(first, first + key_block)
        logits = (q.float() @ k[:, :, at].float().transpose(2, 3)) * q.shape[-1] ** -0.5
        if bias is not None:
            logits = logits + bias[:, :, None, at]
        block_lse = logits.logsumexp(-1)
        weights = (logits - _finite(block_lse).unsqueeze(-1)).exp()
        part = merge([part, Part(weights @ v[:, :, at].float(), block_lse)])
    return part


def merge(parts: Sequence[Part]) -> Part:
    """Attention over the keys of all parts, exactly: outputs weighted by exp(lse)."""
    lse = torch.stack([part.lse for part in parts]).logsumexp(0)
    out = torch.zeros_like(parts[0].out)
    for part in parts:
        out = out + part.out * (part.lse - _finite(lse)).exp().unsqueeze(-1)
    return Part(out, lse)


def _finite(lse: Tensor) -> Tensor:
    """Replace -inf by 0, so that -inf minus the result stays -inf."""
    return lse.masked_fill(lse == -torch.inf, 0.0)
