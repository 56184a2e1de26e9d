"""`comfy.utils.tiled_scale`: apply a function to pictures tile by tile and blend the seams."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

Enlarge = Callable[[Tensor], Tensor]


def tiled_scale(  # noqa: PLR0913  (the core's own arguments)
    samples: Tensor,
    function: Enlarge,
    tile_x: int = 64,
    tile_y: int = 64,
    overlap: int = 8,
    upscale_amount: float = 4,
    output_device: str = "cpu",
) -> Tensor:
    """Enlarge pictures (n, 3, H, W) by `upscale_amount`, one at a time, in overlapping tiles."""
    tile = (tile_y, tile_x)
    pictures = (_enlarge(p, function, tile, overlap, upscale_amount) for p in samples.split(1))
    return torch.cat([picture.to(output_device) for picture in pictures])


def _enlarge(
    picture: Tensor, function: Enlarge, tile: tuple[int, int], overlap: int, scale: float
) -> Tensor:
    height, width = picture.shape[2:]
    if height <= tile[0] and width <= tile[1]:
        return function(picture)
    total = torch.zeros(1, 3, round(height * scale), round(width * scale), device=picture.device)
    weight = torch.zeros_like(total[:, :1])
    feather = round(overlap * scale)
    spans = (_spans(height, tile[0], overlap), _spans(width, tile[1], overlap))
    for (top, bottom), (left, right) in itertools.product(*spans):
        part = function(picture[:, :, top:bottom, left:right])
        place = (..., _slice(top, part.shape[2], scale), _slice(left, part.shape[3], scale))
        mask = _ramp(part.shape[2], feather)[:, None] * _ramp(part.shape[3], feather)
        total[place] += part * mask.to(part.device)
        weight[place] += mask.to(part.device)
    return total / weight


def _spans(size: int, tile: int, overlap: int) -> Iterator[tuple[int, int]]:
    """Yield start and end of the tiles along one side."""
    for start in range(0, size - overlap, tile - overlap) if size > tile else (0,):
        yield start, min(start + tile, size)


def _slice(start: int, size: int, scale: float) -> slice:
    return slice(round(start * scale), round(start * scale) + size)


def _ramp(size: int, feather: int) -> Tensor:
    """Return weights (size,) that rise over the first and fall over the last `feather` values."""
    if feather >= size:
        return torch.ones(size)
    rise = (torch.arange(size) + 1).clamp(max=feather) / feather
    return rise * rise.flip(0)
