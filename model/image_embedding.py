"""CLIP vision features of a picture as tokens, for models that read them in place of a prompt.

Source: Wan-Video/Wan2.1 `wan/modules/model.py` (MLPProj).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn
from torch.nn import functional

CLIP_DIM = 1280
"""Of the CLIP vision features that image-to-video models take."""


class LayerNorm(nn.LayerNorm):
    """A layer norm that computes in float32 and returns the dtype of its input."""

    def forward(self, x: Tensor) -> Tensor:
        """Normalise the last axis of x (..., c)."""
        weight, bias = self.weight.float(), self.bias.float()
        normed = functional.layer_norm(x.float(), self.normalized_shape, weight, bias, self.eps)
        return normed.to(x.dtype)


class ImageEmbedding(nn.Module):
    """Two linear layers between norms, with the names that Wan gives them."""

    def __init__(self, dim: int, linear: Callable[[int, int], nn.Module] = nn.Linear) -> None:
        super().__init__()
        self.proj = nn.Sequential(
            LayerNorm(CLIP_DIM), linear(CLIP_DIM, CLIP_DIM), nn.GELU(),
            linear(CLIP_DIM, dim), LayerNorm(dim),
        )  # fmt: skip

    def forward(self, features: Tensor) -> Tensor:
        """Features (b, s, 1280) to tokens (b, s, c)."""
        tokens: Any = self.proj(features)
        return tokens  # type: ignore[no-any-return]
