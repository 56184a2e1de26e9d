"""The picture that FlashVSR works on: enlarged, and filled up to its blocks at the edges."""

from __future__ import annotations

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor

BLOCK_PIXELS = 128  # rows and columns of a block: 8 tokens of 16 pixels


@dataclass(frozen=True, slots=True)
class Canvas:
    """Pictures of `width` x `height`, both even, within sides that are multiples of 128.

    The authors cut what is beyond the last whole block. Here edges are repeated up to the next
    one, and cut off after the work.
    """

    width: int
    height: int

    @property
    def full_width(self) -> int:
        """The width with its fill."""
        return _up(self.width)

    @property
    def full_height(self) -> int:
        """The height with its fill."""
        return _up(self.height)

    def enter(self, frames: Tensor) -> Tensor:
        """Frames (n, 3, h, w) in [0, 1], enlarged, filled and in [-1, 1]."""
        size = self.height, self.width
        if len(frames) == 0:  # CUDA refuses to enlarge none
            return frames.new_zeros(0, 3, self.full_height, self.full_width)
        if frames.shape[2:] != size:
            frames = F.interpolate(frames, size, mode="bicubic", antialias=True).clamp(0, 1)
        top, left = self._margins
        bottom, right = self.full_height - size[0] - top, self.full_width - size[1] - left
        return F.pad(frames, (left, right, top, bottom), mode="replicate") * 2 - 1

    def leave(self, frames: Tensor) -> Tensor:
        """Cut the fill off frames (n, 3, H, W) in [-1, 1]; the result is in [0, 1]."""
        top, left = self._margins
        inside = frames[:, :, top : top + self.height, left : left + self.width]
        return inside.float().clamp(-1, 1) / 2 + 0.5

    @property
    def _margins(self) -> tuple[int, int]:
        return (self.full_height - self.height) // 2, (self.full_width - self.width) // 2


def _up(side: int) -> int:
    return -(-side // BLOCK_PIXELS) * BLOCK_PIXELS
