"""Attention in plain torch a block of keys at a time, with log-sum-exps by which parts combine.

The running softmax of FlashAttention (arXiv 2205.14135, algorithm 1) without its fusion: the
reference for kernels, and exact whatever keys are left to other parts. Never more than
(s, KEY_BLOCK) logits of a head exist. Here tensors are (b, n, s, d).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

KEY_BLOCK = 1024


@dataclass(frozen=True, slots=True)
class Part:
    """Attention over some keys: float32 `out` (b, n, s, d), and the log of the summed exponentials
    `lse` (b, n, s), -inf where a query saw none.
    """

    out: Tensor
    lse: Tensor


def attend_part(
    q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None = None, *, key_block: int = KEY_BLOCK
) -> Part:
    """Attention of q (b, n, s, d) over k, v (b, n, t, d), `bias` (b, n, t) on a key's logits."""
    out, lse = q.new_zeros(q.shape, dtype=torch.float32), q.new_full(q.shape[:-1], -torch.inf)
    made = Part(out, lse.float())
    for first in range(0, k.shape[2], key_block):
        at = slice(first, first + key_block)
        logits = (q.float() @ k[:, :, at].float().transpose(2, 3)) * q.shape[-1] ** -0.5
        if bias is not None:
            logits = logits + bias[:, :, None, at]
        of_block = logits.logsumexp(-1)
        weights = (logits - _finite(of_block).unsqueeze(-1)).exp()
        made = merged([made, Part(weights @ v[:, :, at].float(), of_block)])
    return made


def merged(parts: Sequence[Part]) -> Part:
    """The attention over all parts' keys together, exactly: outputs weighted by exp(lse)."""
    lse = torch.stack([part.lse for part in parts]).logsumexp(0)
    out = torch.zeros_like(parts[0].out)
    for part in parts:
        out = out + part.out * (part.lse - _finite(lse)).exp().unsqueeze(-1)
    return Part(out, lse)


def _finite(lse: Tensor) -> Tensor:
    """Zero where nothing was seen, so that -inf minus it stays -inf."""
    return lse.masked_fill(lse == -torch.inf, 0.0)
