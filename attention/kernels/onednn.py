"""Softmax attention by oneDNN's products, for long float32 attention on CPUs with AVX-512.

torch's fused kernel multiplies by MKL; see `products`. Here a head's logits are computed for some
queries at once, as many as the processor's cache holds. Tensors are (b, n, s, d). A head's keys lie
between those of others, and oneDNN takes no such order: they are copied, but never for each run of
queries.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ...machine.products import product, suits_products
from ..pieces import piece_starts

LOGITS = 1 << 19
"""Logits that are in memory at once, 2 MiB."""
KEYS = 1 << 14
"""Keys over which a head has one softmax. More of them leave few queries for a product."""
PART = 1 << 11
"""Keys of a part, where a head has more."""
FEWEST_LOGITS = 1 << 17
"""Logits of a head below which torch's fused kernel is about as fast."""


def suits_long_attention(q: Tensor, k: Tensor) -> bool:
    """Whether attention of q over k is long enough to gain, and can be computed here."""
    keys = k.shape[2]
    return q.shape[2] * keys >= FEWEST_LOGITS and suits_products(q, keys)


def attend_long(q: Tensor, k: Tensor, v: Tensor, scale: float | None = None) -> Tensor:
    """Attention of q (b, n, s, d) over k, v (b, n, t, d)."""
    (b, n, s, d), t = q.shape, k.shape[2]
    out = q.new_empty(b, s, n, v.shape[-1])  # in the order in which tokens are read next
    scaled, attend = q * (d**-0.5 if scale is None else scale), _at_once if t <= KEYS else _in_parts
    for row in range(b):
        for head in range(n):
            attend(scaled[row, head], k[row, head], v[row, head], out[row, :, head])
    return out.transpose(1, 2)


def _at_once(q: Tensor, k: Tensor, v: Tensor, out: Tensor) -> None:
    """Attention of a head's q (s, d) over all of k, v (t, d), which are copied once."""
    keys, values, runs = k.contiguous(), v.contiguous().t(), -(-len(q) * len(k) // LOGITS)
    size = -(-len(q) // runs)
    for first in piece_starts(len(q), size, q):
        rows = slice(first, first + size)
        logits = product(q[rows], keys)
        out[rows] = product(torch.softmax(logits, -1, out=logits), values)


def _in_parts(q: Tensor, k: Tensor, v: Tensor, out: Tensor) -> None:
    """Attention of a head over one part of the keys after another: FlashAttention's running sums.

    Each part is copied once, and meets as many queries as its logits leave room for.
    """
    top, total = q.new_full((len(q), 1), -math.inf), q.new_zeros(len(q), 1)
    sums, size = torch.zeros_like(out), LOGITS // PART
    for start in piece_starts(len(k), PART, k):
        keys, values = (x[start : start + PART].contiguous() for x in (k, v))
        for first in piece_starts(len(q), size, q):
            rows = slice(first, first + size)
            logits = product(q[rows], keys)
            highest = torch.maximum(top[rows], logits.amax(-1, keepdim=True))
            weights, shrink = logits.sub_(highest).exp_(), (top[rows] - highest).exp_()
            total[rows] = total[rows] * shrink + weights.sum(-1, keepdim=True)
            sums[rows] = sums[rows] * shrink + product(weights, values.t())
            top[rows] = highest
    out.copy_(sums / total)
