"""Combines the branches' predictions into one velocity."""

from __future__ import annotations

from collections.abc import Sequence

from einops import rearrange
from torch import Tensor

from ...machine.uploads import upload_numbers
from ...model.config import PATCH
from .terms import Limits


def combine(predictions: Tensor, weights: Sequence[Sequence[float]]) -> Tensor:
    """The weighted sum of predictions (b, f, c, h, w); weights (b, f) are per frame.

    A single branch is returned unchanged, because its weight is 1.
    """
    if len(weights) == 1:
        return predictions[0]
    return (predictions * upload_numbers(weights, predictions)[..., None, None, None]).sum(0)


def limit(v: Tensor, base: Tensor, limits: Limits) -> Tensor:
    """Bound the guided velocity v (f, c, h, w) by the base branch's; both are float32."""
    if limits.rescale > 0:
        ratio = _deviation(base) / _deviation(v).clamp(min=1e-12)
        v = v * (1 + limits.rescale * (ratio - 1))
    if limits.norm_cap is not None:
        v = v * _cap(v, base, limits.norm_cap)
    return v


def _deviation(v: Tensor) -> Tensor:
    return v.std((1, 2, 3), keepdim=True)


def _cap(v: Tensor, base: Tensor, most: float) -> Tensor:
    """A factor of at most 1 per token, (f, 1, h, w)."""
    ratio = most * _token_norm(base) / _token_norm(v).clamp(min=1e-12)
    factor = ratio.clamp(max=1).repeat_interleave(PATCH, -2).repeat_interleave(PATCH, -1)
    return factor.unsqueeze(1)


def _token_norm(v: Tensor) -> Tensor:
    patches = rearrange(v, "f c (h p) (w q) -> f h w (c p q)", p=PATCH, q=PATCH)
    return patches.square().sum(-1).sqrt()
