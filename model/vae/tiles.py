"""Streams in spatial tiles, each with its own stream, and blends their seams.

A wide picture then needs the working memory of one tile. Layers that see the whole picture (the Wan
VAEs' middle attention) see one tile, so the result is close to the untiled one, not equal. Every
chunking over time gives exactly the same frames.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .protocol import OpenCoder, StreamingCoder


@dataclass(frozen=True, slots=True)
class Tile:
    """Latent rows [top, bottom) and columns [left, right)."""

    top: int
    bottom: int
    left: int
    right: int


class TiledDecoder:
    """Decodes tiles of at most `side` latent rows and columns, each by its own decoder.

    Neighbouring tiles overlap by a quarter of `side`.
    """

    def __init__(self, open_decoder: OpenCoder, side: int) -> None:
        self._open, self._side = open_decoder, side
        self._decoders: dict[Tile, StreamingCoder] = {}
        self._any = open_decoder()

    def reset(self) -> None:
        """Forget the past: the next latent is a first one."""
        self._decoders.clear()

    @property
    def state_bytes(self) -> int:
        """Bytes kept by the decoders of all tiles."""
        return sum(decoder.state_bytes for decoder in self._decoders.values())

    @property
    def overlap_frames(self) -> int:
        """Latent frames to decode again before a frame in mid-stream is exact."""
        return self._any.overlap_frames

    def feed(self, latents: Tensor) -> Tensor:
        """Decode the next latents, tile by tile."""
        rows, columns = latents.shape[-2:]
        picture = weight = None
        for tile in tiles(rows, columns, self._side):
            decoder = self._decoders.setdefault(tile, self._open())
            part = decoder.feed(latents[:, :, tile.top : tile.bottom, tile.left : tile.right])
            factor = part.shape[-1] // (tile.right - tile.left)
            if picture is None or weight is None:
                size = (rows * factor, columns * factor)
                picture, weight = part.new_zeros(*part.shape[:2], *size), part.new_zeros(size)
            share = _ramp(tile.top, tile.bottom, rows, self._overlap, factor, part)[:, None]
            share = share * _ramp(tile.left, tile.right, columns, self._overlap, factor, part)
            ys = slice(tile.top * factor, tile.bottom * factor)
            xs = slice(tile.left * factor, tile.right * factor)
            picture[..., ys, xs] += part * share
            weight[ys, xs] += share
        assert picture is not None and weight is not None
        return picture / weight

    def drain(self) -> Tensor | None:
        """Frames still held back: none, a causal decoder keeps nothing."""
        return None

    @property
    def _overlap(self) -> int:
        return overlap(self._side)


def tiles(rows: int, columns: int, side: int) -> list[Tile]:
    """The tiles that cover a latent picture."""
    return [
        Tile(top, min(rows, top + side), left, min(columns, left + side))
        for top in _starts(rows, side)
        for left in _starts(columns, side)
    ]


def overlap(side: int) -> int:
    """Latent rows or columns that neighbouring tiles share."""
    return side // 4


def _starts(length: int, side: int) -> Sequence[int]:
    if length <= side:
        return [0]
    return [*range(0, length - side, side - overlap(side)), length - side]


def _ramp(first: int, stop: int, length: int, shared: int, factor: int, like: Tensor) -> Tensor:
    """Weights along one side of a tile: 1, falling where a neighbour overlaps."""
    places = torch.arange((stop - first) * factor, device=like.device, dtype=like.dtype) + 0.5
    width = max(1, shared * factor)
    ramp = torch.ones_like(places)
    if first:
        ramp = torch.minimum(ramp, places / width)
    if stop < length:
        ramp = torch.minimum(ramp, places.flip(0) / width)
    return ramp
