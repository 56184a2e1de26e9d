"""Softmax attention by oneDNN's products, for long float32 attention on CPUs with AVX-512.

torch's fused kernel multiplies by MKL; see `products`. Here a head's logits are computed for some
queries at once, as many as the processor's cache holds. Tensors are (b, n, s, d).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ...products import product, suits_products

LOGITS = 1 << 19
"""Logits that are in memory at once, 2 MiB."""
FEWEST_LOGITS = 1 << 17
"""Logits of a head below which torch's fused kernel is about as fast."""
KEYS = 8192
"""Keys of a head that are copied at once, where they lie between those of other heads."""


def suits_long_attention(q: Tensor, k: Tensor) -> bool:
    """Whether attention of q over k is long enough to gain, and can be computed here."""
    keys = k.shape[2]
    return q.shape[2] * keys >= FEWEST_LOGITS and suits_products(q, keys)


def attend_long(q: Tensor, k: Tensor, v: Tensor, scale: float | None = None) -> Tensor:
    """Attention of q (b, n, s, d) over k, v (b, n, t, d)."""
    (b, n, s, d), t = q.shape, k.shape[2]
    out = q.new_empty(b, s, n, v.shape[-1])  # in the order in which tokens are read next
    scaled, runs = q * (d**-0.5 if scale is None else scale), -(-s * t // LOGITS)
    for row in range(b):
        for head in range(n):
            keys, values = _in_parts(k[row, head]), _in_parts(v[row, head])
            parts = zip(scaled[row, head].chunk(runs), out[row, :, head].chunk(runs), strict=True)
            for queries, part in parts:
                part.copy_(_attend(queries, keys, values))
    return out.transpose(1, 2)


def _in_parts(x: Tensor) -> Sequence[Tensor]:
    """The keys or values x (t, d) of a head; few are copied once for all queries."""
    parts = x.split(KEYS)
    return (x.contiguous(),) if len(parts) == 1 else parts


def _attend(queries: Tensor, keys: Sequence[Tensor], values: Sequence[Tensor]) -> Tensor:
    """Attention of queries (s, d) over the parts of keys and values (t, d)."""
    parts = [product(queries, part) for part in keys]
    logits = parts[0] if len(parts) == 1 else torch.cat(parts, -1)
    weights = torch.softmax(logits, -1, out=logits).split(KEYS, -1)
    first, *further = (product(w, part.t()) for w, part in zip(weights, values, strict=True))
    for out in further:
        first += out
    return first
