"""Softmax attention of float32 tensors in bfloat16, on CPUs that have instructions for it.

Products have sums in float32, and take half the time and less. With AMX, torch's own kernel is the
quickest, which keeps logits in float32. Elsewhere two products of oneDNN are, whose logits and
weights are rounded to bfloat16 too. Tensors are (b, n, s, d).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812 - PyTorch's own convention
from torch import Tensor

from ...machine.products import has_wide_products, multiplies_tiles
from ...machine.rehearsed_device import device_kind
from ..pieces import piece_starts

LOGITS = 1 << 21
"""Logits that are in memory at once, 4 MiB."""
FEWEST_LOGITS = 1 << 14
"""Logits of a head below which float32 is about as fast."""
MOST_KEYS = 1 << 13
"""Keys above which `LOGITS` leave a product of oneDNN too few queries to gain."""


def suits_lowering(q: Tensor, k: Tensor) -> bool:
    """Whether attention of q over k gains here; the products know no gradients."""
    keys = k.shape[2]
    if q.shape[2] * keys < FEWEST_LOGITS or q.dtype is not torch.float32:
        return False
    if torch.is_grad_enabled() or device_kind(q) != "cpu" or not has_wide_products():
        return False
    return keys <= MOST_KEYS or multiplies_tiles()


def attend_lowered(q: Tensor, k: Tensor, v: Tensor, scale: float | None = None) -> Tensor:
    """Attention of q (b, n, s, d) over k, v (b, n, t, d), in float32 again."""
    attend = _by_tiles if multiplies_tiles() else _by_products
    return attend(q, k, v, q.shape[-1] ** -0.5 if scale is None else scale)


def _by_tiles(q: Tensor, k: Tensor, v: Tensor, scale: float) -> Tensor:
    """Attention by torch's kernel, whose products are AMX's."""
    queries, keys, values = (x.to(torch.bfloat16) for x in (q, k, v))
    return F.scaled_dot_product_attention(queries, keys, values, scale=scale).to(q.dtype)


def _by_products(q: Tensor, k: Tensor, v: Tensor, scale: float) -> Tensor:
    """Attention by two products of oneDNN.

    As many queries meet all keys at once as `LOGITS` allow; if these are all, half as many calls of
    torch do.
    """
    (b, n, s, _), t = q.shape, k.shape[2]
    queries = (q * scale).to(torch.bfloat16)
    keys, values = _by_head(k), _by_head(v)
    if b * n * s * t <= LOGITS:
        logits = torch.matmul(queries, keys.mT)
        return torch.matmul(torch.softmax(logits, -1, out=logits), values).to(q.dtype)
    by_head = [x.flatten(0, 1) for x in (queries, keys, values)]
    return _in_pieces(*by_head).view(b, n, s, -1)


def _in_pieces(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Attention of scaled q (h, s, d) over k, v (h, t, d), whose logits share one memory."""
    (heads, s, _), t = q.shape, k.shape[1]
    size = -(-s // -(-heads * s * t // LOGITS))
    room = q.new_empty(heads * size * t)
    out = q.new_empty(heads, s, v.shape[-1], dtype=torch.float32)
    for first in piece_starts(s, size, q):
        piece = q[:, first : first + size]
        logits = room[: heads * piece.shape[1] * t].view(heads, -1, t)
        torch.bmm(piece, k.mT, out=logits)
        weights = torch.softmax(logits, -1, out=logits)
        out[:, first : first + size] = torch.bmm(weights, v)
    return out


def _by_head(x: Tensor) -> Tensor:
    """x (b, n, s, d) in bfloat16, where the tokens of a head lie together.

    Otherwise a product of many keys takes twice as long. The float32 values are read in the order
    in which they lie, and only their halves are put into another: that takes half the time.
    """
    return x.to(torch.bfloat16).contiguous()
