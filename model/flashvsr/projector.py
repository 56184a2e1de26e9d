"""FlashVSR's projector: low-quality frames as tokens that are added to the transformer's own.

Names are the official ones. Version 1 was trained with a slip, which its weights need: each clip is
preceded by its own last two frames in place of those before it. Version 1.1 is causal. Both have
the same tensors. Sources: OpenImagingLab/FlashVSR ccac0ac `examples/WanVSR/utils/utils.py`,
`Buffer_LQ4x_Proj` (version 1), and 1f37a68, `Causal_LQ4x_Proj` (version 1.1).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

PIXELS = 16  # rows and columns of pixels in a token
CLIP_FRAMES = 4  # frames that make one latent frame of tokens
PAST_FRAMES = 2  # of each convolution's input
KERNEL, STRIDE = (4, 3, 3), (2, 1, 1)


@dataclass(frozen=True, slots=True)
class ProjectorConfig:
    """Channels of both convolutions and of the tokens, and how many blocks get tokens.

    `causal` is version 1.1.
    """

    middle: int
    wide: int
    tokens: int
    blocks: int
    causal: bool


@dataclass(frozen=True, slots=True)
class ProjectorPast:
    """The last two frames that each convolution has read, (1, c, 2, h, w); empty for version 1."""

    convolutions: tuple[Tensor, ...]


class ChannelNorm(nn.Module):
    """RMS norm over the channels of x (b, c, f, h, w)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(channels, 1, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return F.normalize(x, dim=1) * math.sqrt(x.shape[1]) * self.gamma


class Projector(nn.Module):
    """The module tree with the official names; call `begin` once, then `project` for each clip."""

    def __init__(self, config: ProjectorConfig) -> None:
        super().__init__()
        self.config = config
        self.conv1 = nn.Conv3d(3 * PIXELS**2, config.middle, KERNEL, STRIDE)
        self.norm1 = ChannelNorm(config.middle)
        self.conv2 = nn.Conv3d(config.middle, config.wide, KERNEL, STRIDE)
        self.norm2 = ChannelNorm(config.wide)
        self.linear_layers = nn.ModuleList(
            nn.Linear(config.wide, config.tokens) for _ in range(config.blocks)
        )

    def begin(self, first: Tensor) -> ProjectorPast:
        """What the first frame (3, 1, H, W) leaves for the clip after it."""
        if not self.config.causal:
            return ProjectorPast(())
        x = _fold(first.expand(-1, CLIP_FRAMES, -1, -1))
        return ProjectorPast((_last(x), _last(self._middle(x, _last(x)))))

    def project(self, clip: Tensor, past: ProjectorPast) -> tuple[Sequence[Tensor], ProjectorPast]:
        """Tokens (1, 1, s, c) for each block of the next 4 frames (3, 4, H, W) in [-1, 1]."""
        x = _fold(clip)
        before = past.convolutions or (_last(x),)
        middle = self._middle(x, before[0])
        wide = _convolve(self.conv2, middle, before[1] if before[1:] else _last(middle))
        tokens = rearrange(F.silu(self.norm2(wide)), "b c f h w -> b f (h w) c")
        after = (_last(x), _last(middle)) if self.config.causal else ()
        return [layer(tokens) for layer in self.linear_layers], ProjectorPast(after)

    def _middle(self, x: Tensor, before: Tensor) -> Tensor:
        return F.silu(self.norm1(_convolve(self.conv1, x, before)))


def _fold(clip: Tensor) -> Tensor:
    """Frames (3, f, H, W) with the pixels of a token as channels: (1, 768, f, h, w)."""
    return rearrange(clip, "c f (h i) (w j) -> 1 (c i j) f h w", i=PIXELS, j=PIXELS)


def _last(x: Tensor) -> Tensor:
    return x[:, :, -PAST_FRAMES:].clone()


def _convolve(layer: nn.Conv3d, x: Tensor, before: Tensor) -> Tensor:
    """Convolve x (b, c, f, h, w) after the 2 frames `before`; edges are repeated."""
    padded = F.pad(torch.cat([before, x], 2), (1, 1, 1, 1, 0, 0), mode="replicate")
    y: Tensor = layer(padded)
    return y
