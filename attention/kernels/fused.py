"""Softmax attention by torch's fused kernels."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from .blockwise import Part, attend_part
from .lowered import attend_lowered, suits_lowering
from .onednn import attend_long, suits_long_attention

ALIGNMENT = 8
"""The head dimensions of CUDA's kernel are multiples of this."""


def fused_attention(  # noqa: PLR0913
    q: Tensor,
    k: Tensor,
    v: Tensor,
    mask: Tensor | None = None,
    scale: float | None = None,
    products: torch.dtype = torch.float32,
) -> Tensor:
    """Attention of q (b, n, s, d) over k, v (b, n, t, d), as `scaled_dot_product_attention`.

    Float32 tensors may be multiplied as `products` in bfloat16, where that gains and no `mask` is
    given. Tensors on `meta` take what a fused kernel takes, the output alone. Torch itself would
    make the whole matrix of weights there.
    """
    if q.is_meta:
        return torch.empty_like(q)
    if mask is None and products is torch.bfloat16 and suits_lowering(q, k):
        return attend_lowered(q, k, v, scale)
    if mask is None and suits_long_attention(q, k):
        return attend_long(q, k, v, scale)
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=scale)


def fused_part(q: Tensor, k: Tensor, v: Tensor, is_read: Tensor) -> Part:
    """Attention of q (b, n, s, d) over the keys of k, v (b, n, t, d) that `is_read` (b, t) shows.

    Every row reads a key. `out` has the dtype of q. Torch gives log-sum-exps by the kernels below
    `scaled_dot_product_attention`; where it has none for a device, plain operations do the same.
    """
    kind, (b, n, s, d), t = q.device.type, q.shape, k.shape[2]
    bias = q.new_zeros(b, t).masked_fill(~is_read, -torch.inf)
    if q.is_meta:
        return Part(torch.empty_like(q), q.new_empty(b, n, s, dtype=torch.float32))
    if kind == "cpu":
        cpu_kernel = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
        return Part(*cpu_kernel(q, k, v, attn_mask=bias[:, None, None]))
    if kind == "cuda" and d % ALIGNMENT == 0:
        cuda_kernel = torch.ops.aten._scaled_dot_product_efficient_attention
        mask = bias[:, None, None].expand(b, n, s, t)
        out, lse, *_ = cuda_kernel(q, k, v, mask, True)  # noqa: FBT003
        return Part(out, lse[..., :s])  # it may have more rows
    part = attend_part(q, k, v, bias[:, None].expand(b, n, t))
    return Part(part.out.to(q.dtype), part.lse)
