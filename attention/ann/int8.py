"""Nearest keys among 8-bit codes, FAST-AR's default: a quarter of the memory traffic of float32.

A key's code is its direction, scaled so that its largest component is 127 and rounded. The last two
bytes hold the inverse norm of the rounded direction as a float16. Cosines are those of the codes.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..pieces import piece_starts
from .nearest import KEY_BLOCK, CodedKeys, Nearest, StatelessIndex, no_match, update_best

LEVELS = 127
SCALE_BYTES = 2


class Int8(StatelessIndex):
    """Codes of one byte per dimension."""

    code_dtype = torch.int8

    def __init__(self, head_dim: int) -> None:
        self.code_width = head_dim + SCALE_BYTES

    def encode(self, layer: int, keys: Tensor) -> Tensor:
        """Rounded directions of keys (b, n, s, d), and their inverse norms."""
        peak = keys.float().abs().amax(-1, keepdim=True).clamp(min=1e-12)
        rounded = (keys.float() * (LEVELS / peak)).round()
        size = rounded.norm(dim=-1, keepdim=True)
        inverse = size.clamp(min=1).reciprocal().half()  # a key of 0 has no direction
        return torch.cat([rounded.to(torch.int8), inverse.view(torch.int8)], -1)

    def nearest(self, layer: int, new: Tensor, codes: Tensor, cached: CodedKeys) -> Nearest:
        """The nearest key by the codes of new and cached keys."""
        best = no_match(new)
        directions, scale = _split(codes)
        for first in piece_starts(cached.codes.shape[2], KEY_BLOCK, cached.codes):
            at = slice(first, first + KEY_BLOCK)
            key_directions, key_scale = _split(cached.codes[:, :, at])
            cosine = int8_products(directions, key_directions).float()
            cosine = cosine * scale.unsqueeze(-1) * key_scale.unsqueeze(2)
            cosine = cosine.masked_fill(~cached.allowed[:, :, None, at], -torch.inf)
            best = update_best(best, cosine, first)
        return best


def int8_products(a: Tensor, b: Tensor) -> Tensor:
    """Integer products (b, n, s, t) of a (b, n, s, d) and b (b, n, t, d).

    A CPU uses 8-bit instructions. Other devices use float32, which holds sums of up to 1,040
    products of two bytes exactly.
    """
    if a.device.type != "cpu":
        return a.float() @ b.float().transpose(2, 3)
    pairs = zip(a.flatten(0, 1), b.flatten(0, 1), strict=True)
    products = torch.stack([torch._int_mm(x, y.t()) for x, y in pairs])
    return products.view(*a.shape[:3], b.shape[2])


def _split(codes: Tensor) -> tuple[Tensor, Tensor]:
    """Directions (b, n, s, d) and inverse norms (b, n, s) float32."""
    scale = codes[..., -SCALE_BYTES:].contiguous().view(torch.float16).squeeze(-1)
    return codes[..., :-SCALE_BYTES].contiguous(), scale.float()
