"""Decoding in tiles: seams blend to the whole, and dealing out over time changes nothing."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor

from longtake.model.vae.streaming import StreamingDecoder
from longtake.model.vae.tiles import TiledDecoder, tiles
from longtake.tests.support.model.vaes import VAE
from longtake.tests.support.tiny_model import randn


class Enlarger:
    """A decoder that looks at no neighbours: each latent pixel is 8 x 8 pixels."""

    state_bytes = 7
    overlap_frames = 2

    def feed(self, latents: Tensor) -> Tensor:
        return latents.repeat_interleave(8, -1).repeat_interleave(8, -2)

    def reset(self) -> None:
        """It has no past."""


@pytest.mark.parametrize(
    ("rows", "columns", "side"), [(5, 7, 4), (8, 8, 8), (9, 20, 8), (3, 4, 1), (6, 5, 3)]
)
def test_tiles_cover_everything_and_their_shares_add_up(rows: int, columns: int, side: int) -> None:
    covered = torch.zeros(rows, columns)
    for tile in tiles(rows, columns, side):
        assert tile.bottom - tile.top == min(rows, side)
        assert tile.right - tile.left == min(columns, side)
        covered[tile.top : tile.bottom, tile.left : tile.right] += 1
    assert covered.min() >= 1
    latents, decoder = randn(2, 3, rows, columns), TiledDecoder(Enlarger, side)
    torch.testing.assert_close(decoder.feed(latents), Enlarger().feed(latents))
    assert decoder.state_bytes == 7 * len(tiles(rows, columns, side))
    assert decoder.overlap_frames == 2


@pytest.mark.parametrize(("columns", "side"), [(5, 4), (7, 4), (20, 8), (21, 8), (64, 12), (3, 1)])
def test_neighbouring_tiles_share_a_quarter_of_their_side_or_more(columns: int, side: int) -> None:
    row = tiles(1, columns, side)
    for left, right in itertools.pairwise(row):
        assert left.left < right.left <= left.right - side // 4


def test_a_seam_fades_evenly_from_one_tile_to_the_next() -> None:
    """Each tile is one shade here; the two shares are counted pixel by pixel."""
    shades = iter((0.0, 0.0, 1.0, 2.0))  # the first decoder is never fed

    class Shade(Enlarger):
        def __init__(self) -> None:
            self.shade = next(shades)

        def feed(self, latents: Tensor) -> Tensor:
            return super().feed(torch.full_like(latents, self.shade))

    decoder = TiledDecoder(Shade, 8)
    picture = decoder.feed(torch.zeros(1, 3, 8, 14))  # columns [0, 8) and [6, 14)
    fade = [(pixel + 0.5) / 16 for pixel in range(16)]
    expected = torch.tensor([0.0] * 48 + fade + [1.0] * 48)
    torch.testing.assert_close(picture, expected.expand(1, 3, 64, 112))


def test_tiles_as_large_as_the_picture_are_the_picture() -> None:
    latents = randn(5, 16, 4, 6)
    whole = StreamingDecoder(VAE).feed(latents)
    assert torch.equal(TiledDecoder(lambda: StreamingDecoder(VAE), 6).feed(latents), whole)


@pytest.mark.parametrize("split", [[1] * 5, [3, 2], [2, 3]])
def test_tiles_dealt_out_over_time_are_the_same(split: list[int]) -> None:
    latents, all_at_once = randn(5, 16, 4, 6), TiledDecoder(lambda: StreamingDecoder(VAE), 4)
    decoder = TiledDecoder(lambda: StreamingDecoder(VAE), 4)
    expected = all_at_once.feed(latents)
    for _ in range(2):
        ours = torch.cat([decoder.feed(part) for part in latents.split(split)])
        torch.testing.assert_close(ours, expected, rtol=0, atol=1e-5)
        decoder.reset()


def test_a_picture_far_from_seams_is_the_whole_ones() -> None:
    latents = randn(2, 16, 4, 40)
    whole = StreamingDecoder(VAE).feed(latents)
    tiled = TiledDecoder(lambda: StreamingDecoder(VAE), 32).feed(latents)
    torch.testing.assert_close(tiled[..., :8], whole[..., :8], rtol=0, atol=1e-5)
    assert (tiled - whole).abs().max() > 1e-5
