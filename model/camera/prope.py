"""minWM's camera: a second self-attention in the axes of each latent frame's camera.

Each block adds `self_attn.prope_o` of that attention to its own. The layer is zero at the start of
training. The matrix of a latent frame takes points of the world to its picture. Its focal lengths
are in parts of the picture; the optical centre does not count.
Source: shengshu-ai/minWM df522a2 (Apache-2.0), `Wan21/wan/modules/causal_model.py`, `prope.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from ...attention.projected import FrameMatrices
from ..config import DiTConfig
from ..hooks import AttentionHook, Hooks
from .frames import PlacedCameras

FULL_STEP = 0.08  # units per latent frame at full speed, `wan_utils/camera_trajectory.py`
LAYER = "prope_o"


def add_prope_layers(tree: Any, config: DiTConfig, linear: Callable[[int, int], nn.Module]) -> None:
    """Add `self_attn.prope_o` to every block, zero as before training."""
    dim = config.dim
    for block in tree.blocks:
        layer: Any = linear(dim, dim)
        nn.init.zeros_(layer.weight)
        nn.init.zeros_(layer.bias)
        setattr(block.self_attn, LAYER, layer)


def camera_matrices(cameras: PlacedCameras) -> FrameMatrices:
    """The matrices of cameras, computed in float64."""
    poses = cameras.poses.clone()
    poses[:, :3, 3] *= FULL_STEP
    focal = cameras.lenses[:, :2].double()
    lens = torch.diag_embed(torch.cat([focal, torch.ones_like(focal)], 1))
    matrices = lens @ torch.linalg.inv(poses)
    inverses = poses @ torch.diag_embed(1 / lens.diagonal(dim1=1, dim2=2))
    return FrameMatrices(matrices.float(), inverses.float())


def prope_hooks(tree: Any, attention: AttentionHook) -> Hooks:
    """Add the second `attention`, projected, to every block's own."""

    def add(layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        out = attention(layer, q, k, v).flatten(-2)
        addition: Tensor = getattr(tree.blocks[layer].self_attn, LAYER)(out)
        return addition

    return Hooks(in_attention=(add,))


def max_values_per_token(config: DiTConfig) -> int:
    """An upper bound of the float32 values per token, of the history too.

    Keys and values side by side, their float32 copies, the products, and these as computed.
    """
    return 10 * config.dim
