"""Dense attention with a bias for each key, through PyTorch's fused kernels.

A merged key of mass m gets + log m. The CUDA kernels accept no bias, so there the bias becomes
extra dimensions: q' = [q, 1], k' = [k, sqrt(d) bias], scaled as for d. On other devices the bias is
a mask with one row for all queries, which costs nothing and is exact. Tensors are (b, n, s, d).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ...machine.rehearsed_device import device_kind
from .fused import ALIGNMENT, fused_attention


def attend_biased(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    bias: Tensor | None = None,
    products: torch.dtype = torch.float32,
) -> Tensor:
    """Softmax attention of q (b, n, s, d) over k, v (b, n, t, d).

    `bias` (b, n, t) is added to all logits of a key; -inf hides the key. Without a bias, float32
    tensors may be multiplied as `products` in bfloat16.
    """
    if bias is None:
        return fused_attention(q, k, v, products=products)
    kind = device_kind(q)
    if kind == "cuda":
        return attend_augmented(q, k, v, bias)
    # On a CPU the bias stays float32: half precision would round up to 1.6 % of a mass of 500 away.
    rounded = bias.float() if kind == "cpu" else bias.to(q.dtype)
    mask = rounded.unsqueeze(2).expand(-1, -1, q.shape[2], -1)
    return fused_attention(q, k, v, mask)


def attend_augmented(q: Tensor, k: Tensor, v: Tensor, bias: Tensor) -> Tensor:
    """Compute `attend_biased` without a mask: the bias is two dimensions, rounding and remainder.

    In half precision a single dimension would be off by up to 0.4 %, which at a mass of 100 is a
    tenth of the logit.
    """
    d = q.shape[-1]
    extra = -(d + 2) % ALIGNMENT + 2
    scaled = (bias.float() * d**0.5).clamp(min=torch.finfo(k.dtype).min / 4)
    high = scaled.to(k.dtype)
    low = (scaled - high.float()).to(k.dtype)
    ones = q.new_ones(*q.shape[:-1], 2)
    q = F.pad(torch.cat([q, ones], -1), (0, extra - 2))
    k = F.pad(torch.cat([k, high.unsqueeze(-1), low.unsqueeze(-1)], -1), (0, extra - 2))
    out = fused_attention(q, k, F.pad(v, (0, extra)), scale=d**-0.5)
    return out[..., :d]
