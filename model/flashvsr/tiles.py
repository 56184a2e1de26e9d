"""Overlapping tiles of a large picture, and the weights that blend their seams.

Each tile is worked on as a picture of its own, so attention does not reach into the next one. Where
tiles overlap, the picture fades from one to the other in a straight line.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ...machine.uploads import upload
from ..vae.latent_format import WAN21
from .canvas import BLOCK_PIXELS, Canvas

OVERLAP = BLOCK_PIXELS
MARGIN = 32
"""Pixels at the edge of a tile that show the edge, and are left out of the overlap's fade."""
MIN_SIDE = 2 * BLOCK_PIXELS
TILE_SIDES = 1024, 768, 512, 384, MIN_SIDE
"""Sides of tiles to try, in pixels of the large picture."""


@dataclass(frozen=True, slots=True)
class Tile:
    """A part of the picture with its fill; all numbers are pixels, multiples of 128."""

    top: int
    left: int
    height: int
    width: int

    def of(self, frames: Tensor) -> Tensor:
        """This part of frames (n, 3, H, W), as a view."""
        bottom, right = self.top + self.height, self.left + self.width
        return frames[..., self.top : bottom, self.left : right]

    def of_latents(self, latents: Tensor) -> Tensor:
        """This part of latents (f, c, h, w), as a view."""
        sides = self.top, self.left, self.height, self.width
        return Tile(*(side // WAN21.spatial_factor for side in sides)).of(latents)


@dataclass(frozen=True, slots=True)
class Tiling:
    """Tiles of at most `side` pixels, 0 for one tile of the whole picture."""

    canvas: Canvas
    side: int = 0

    @property
    def tiles(self) -> list[Tile]:
        """All tiles, row by row."""
        rows = _spans(self.canvas.full_height, self.side)
        columns = _spans(self.canvas.full_width, self.side)
        return [Tile(top, left, h, w) for top, h in rows for left, w in columns]

    def weights(self, device: torch.device) -> list[Tensor]:
        """For each tile the weights (H, W) of its pixels, whose sum is 1 everywhere."""
        rows = _fades(_spans(self.canvas.full_height, self.side), self.canvas.full_height)
        columns = _fades(_spans(self.canvas.full_width, self.side), self.canvas.full_width)
        return [upload(r[:, None] * c[None, :], device) for r in rows for c in columns]


def _spans(length: int, side: int) -> list[tuple[int, int]]:
    """First pixel and size of the tiles along one side, spread evenly."""
    if not side or length <= side:
        return [(0, length)]
    count = -(-(length - OVERLAP) // (side - OVERLAP))
    blocks = (length - side) // BLOCK_PIXELS
    return [(round(i * blocks / (count - 1)) * BLOCK_PIXELS, side) for i in range(count)]


def _fades(spans: Sequence[tuple[int, int]], length: int) -> list[Tensor]:
    """The share of each tile in the pixels of its own span."""
    ramps = []
    for number, (start, size) in enumerate(spans):
        ramp, places = torch.ones(size), torch.arange(size) + 0.5
        if number:
            ramp *= _rise(places, sum(spans[number - 1]) - start)
        if number + 1 < len(spans):
            ramp *= _rise(size - places, start + size - spans[number + 1][0])
        ramps.append(ramp)
    total = torch.zeros(length)
    for ramp, (start, size) in zip(ramps, spans, strict=True):
        total[start : start + size] += ramp
    return [r / total[start : start + size] for r, (start, size) in zip(ramps, spans, strict=True)]


def _rise(places: Tensor, overlap: int) -> Tensor:
    """From 0 to 1 within an overlap, by the distance in pixels from the tile's edge."""
    return ((places - MARGIN) / (overlap - 2 * MARGIN)).clamp(0, 1)
