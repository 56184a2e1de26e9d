"""Softmax attention by torch's fused kernels."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def fused_attention(
    q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None, scale: float | None = None
) -> Tensor:
    """Attention of q (b, n, s, d) over k, v (b, n, t, d), as `scaled_dot_product_attention`.

    Tensors on `meta` take what a fused kernel takes, the output alone. Torch itself would make the
    whole matrix of weights there.
    """
    if q.is_meta:
        return torch.empty_like(q)
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=scale)
