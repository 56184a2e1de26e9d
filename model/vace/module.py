"""VACE's control module: blocks beside a Wan transformer that read control frames.

Names are the official ones (ali-vilab/VACE 48eb44f `vace/models/wan/modules/model.py`): an
embedding of the control's channels, and a Wan block with a projection for every few of the model's
blocks.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..config import PATCH, DiTConfig
from ..dit import WanBlock

PIXELS = 8  # rows and columns of pixels in a latent cell, each with a channel of the mask
MASK_CHANNELS = PIXELS**2


def control_channels(latent_channels: int) -> int:
    """Channels of a control frame: what stays, what may change, and the mask of a cell's pixels."""
    return 2 * latent_channels + MASK_CHANNELS


class VaceBlock(WanBlock):
    """A Wan block with a projection to a hint; the first one takes control frames in."""

    def __init__(self, config: DiTConfig, *, first: bool) -> None:
        super().__init__(config)
        if first:
            self.before_proj = nn.Linear(config.dim, config.dim)
        self.after_proj = nn.Linear(config.dim, config.dim)


class VaceModule(nn.Module):
    """The module tree with exactly the official names."""

    def __init__(self, config: DiTConfig) -> None:
        super().__init__()
        self.vace_patch_embedding = nn.Conv3d(
            control_channels(config.out_channels), config.dim, (1, PATCH, PATCH), (1, PATCH, PATCH)
        )
        blocks = (VaceBlock(config, first=i == 0) for i in range(config.control_blocks))
        self.vace_blocks = nn.ModuleList(blocks)

    @property
    def first_block(self) -> VaceBlock:
        """The block that takes control frames in."""
        block = self.vace_blocks[0]
        assert isinstance(block, VaceBlock)
        return block

    def computing_in(self, dtype: torch.dtype) -> VaceModule:
        """This module with its blocks in `dtype`; the embedding stays in float32."""
        self.vace_blocks.to(dtype)
        self.vace_patch_embedding.float()  # `embed` feeds it float32
        return self

    @torch.no_grad()
    def embed(self, frames: Tensor, dtype: torch.dtype) -> Tensor:
        """Tokens (f, s, c) in `dtype` of control frames (f, channels, h, w)."""
        tokens: Tensor = self.vace_patch_embedding(frames.float().transpose(0, 1)[None])
        return tokens[0].flatten(2).permute(1, 2, 0).to(dtype)


def shape_only_module(config: DiTConfig, dtype: torch.dtype) -> VaceModule:
    """A module of that shape without weights."""
    with torch.device("meta"):
        return VaceModule(config).computing_in(dtype)
