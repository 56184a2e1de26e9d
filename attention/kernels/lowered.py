"""Softmax attention of float32 tensors in bfloat16, on CPUs that have instructions for it.

oneDNN multiplies bfloat16 with sums in float32, in half the time and less. Queries, keys, values,
logits and weights are rounded to bfloat16, as torch's own attention in bfloat16 rounds all of them
but the logits. Tensors are (b, n, s, d).
"""

from __future__ import annotations

import torch
from torch import Tensor

from ...products import has_wide_products
from ...rehearsed_device import device_kind
from ..pieces import piece_starts

LOGITS = 1 << 21
"""Logits that are in memory at once, 4 MiB."""
FEWEST_LOGITS = 1 << 14
"""Logits of a head below which float32 is about as fast."""
MOST_KEYS = 1 << 13
"""Keys above which `LOGITS` leave too few queries for a product, and float32 is as fast."""


def suits_lowering(q: Tensor, k: Tensor) -> bool:
    """Whether attention of q over k gains here; the products know no gradients."""
    keys = k.shape[2]
    if keys > MOST_KEYS or q.shape[2] * keys < FEWEST_LOGITS or q.dtype is not torch.float32:
        return False
    return not torch.is_grad_enabled() and device_kind(q) == "cpu" and has_wide_products()


def attend_lowered(q: Tensor, k: Tensor, v: Tensor, scale: float | None = None) -> Tensor:
    """Attention of q (b, n, s, d) over k, v (b, n, t, d), in float32 again.

    As many queries meet all keys at once as `LOGITS` allow.
    """
    (b, n, s, d), t = q.shape, k.shape[2]
    queries = _by_head(q * (d**-0.5 if scale is None else scale))
    keys, values = _by_head(k).transpose(1, 2), _by_head(v)
    out = q.new_empty(b, s, n, v.shape[-1]).transpose(1, 2)  # tokens lie together: read so next
    size = -(-s // -(-b * n * s * t // LOGITS))
    room = queries.new_empty(b * n * size * t)
    for first in piece_starts(s, size, q):
        piece = queries[:, first : first + size]
        logits = room[: b * n * piece.shape[1] * t].view(b * n, -1, t)
        torch.bmm(piece, keys, out=logits)
        weights = torch.softmax(logits, -1, out=logits)
        out[:, :, first : first + size] = torch.bmm(weights, values).view(b, n, -1, out.shape[-1])
    return out


def _by_head(x: Tensor) -> Tensor:
    """x (b, n, s, d) in bfloat16 as (b * n, s, d), where the tokens of a head lie together.

    Otherwise a product of many keys takes twice as long. The float32 values are read in the order
    in which they lie, and only their halves are put into another: that takes half the time.
    """
    return x.to(torch.bfloat16).contiguous().flatten(0, 1)
