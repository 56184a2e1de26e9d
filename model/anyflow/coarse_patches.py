"""A second patch embedding, by which finished latent frames become a quarter of the tokens.

FAR's long context (arXiv 2503.19325, section 3.3) as in AnyFlow: chunks that are older than the
newest two are committed in patches of 4 x 4 latent places instead of 2 x 2.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import nn

from ..config import COARSE_PATCH

COARSE_LAYER = "far_patch_embedding"

Convolution = Callable[..., nn.Module]
"""Makes a convolution from channels in and out, kernel and stride."""


def add_coarse_patches(tree: Any, channels: int, dim: int, convolution: Convolution) -> None:
    """Add the embedding of coarse patches, named as the authors do, to a module tree."""
    patch = 1, COARSE_PATCH, COARSE_PATCH
    setattr(tree, COARSE_LAYER, convolution(channels, dim, patch, patch))
