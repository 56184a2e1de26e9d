"""The demo's second stage: a small causal network that makes frames four times as large.

It is one step of a cascade (Ho et al., "Cascaded Diffusion Models", arXiv 2106.15282): noise of
level s lies on the small frame, and the network is told s. So errors of the first stage look to it
like noise that it has learned to see through. It makes the large frame in one evaluation, as the
first stage's enlargement plus what it adds.

Each memory block sees the features of the frame before, as in the demo's VAE. So the state is one
picture of features a block, however long the video is.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..vae.memory_order import by_pixel
from ..vae.tiny import Conv, Memory, MemoryBlock, ReLU, run_layers

FACTOR = 4
RGB = 3
SUBPIXELS = 4  # of each pixel, in each of the two doublings
MAX_LEVEL = 0.3
"""The strongest noise in training, as a standard deviation on pictures in [0, 1]."""


@dataclass(frozen=True, slots=True)
class RefinerConfig:
    """Channels at the size of the small frame, channels at twice that size, and memory blocks."""

    width: int = 32
    fine_width: int = 16
    blocks: int = 4


class Shuffle(nn.Module):
    """Turns channels (b, t, 4c, h, w) into a picture twice as large (b, t, c, 2h, 2w)."""

    def forward(self, x: Tensor) -> Tensor:
        return F.pixel_shuffle(x, 2)


class Refiner(nn.Module):
    """Small frames and their noise level to frames four times as wide and high."""

    def __init__(self, config: RefinerConfig) -> None:
        super().__init__()
        self.config = config
        width, fine = config.width, config.fine_width
        self.layers = nn.ModuleList([
            Conv(RGB + 1, width), ReLU(),
            *(MemoryBlock(width) for _ in range(config.blocks)),
            Conv(width, SUBPIXELS * fine), Shuffle(), ReLU(),
            Conv(fine, fine), ReLU(), Conv(fine, SUBPIXELS * RGB), Shuffle(),
        ])  # fmt: skip

    def start(self) -> Memory:
        """The memory before the first frame."""
        return [None] * self.config.blocks

    def forward(self, frames: Tensor, level: Tensor, memory: Memory) -> tuple[Tensor, Memory]:
        """Make frames (b, t, 3, 4h, 4w) of `frames` (b, t, 3, h, w), both around [0, 1].

        `frames` carry noise of standard deviation `level` (b,), 0 to MAX_LEVEL. Returns the memory
        after the last frame too.
        """
        strength = (level / MAX_LEVEL).view(-1, 1, 1, 1, 1).expand_as(frames[:, :, :1])
        x = by_pixel(torch.cat([frames - 0.5, strength], 2))
        detail, memory = run_layers(self.layers, x, memory)
        return enlarge(frames).add_(detail), memory


def enlarge(frames: Tensor) -> Tensor:
    """Frames (b, t, 3, h, w) four times as wide and high, bicubic."""
    larger = F.interpolate(frames.flatten(0, 1), scale_factor=float(FACTOR), mode="bicubic")
    return larger.view(*frames.shape[:2], *larger.shape[1:])


def shrink(frames: Tensor) -> Tensor:
    """Frames (b, t, 3, 4h, 4w) as small ones (b, t, 3, h, w): the mean of each 4x4 pixels."""
    smaller = F.avg_pool2d(frames.flatten(0, 1), FACTOR)
    return smaller.view(*frames.shape[:2], *smaller.shape[1:])
