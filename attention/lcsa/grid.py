"""Tokens of latent frames in blocks of time and place, and which blocks are near each other.

A block is 2 latent frames x 8 rows x 8 columns of tokens. A group is all blocks of 2 latent frames.
Source: OpenImagingLab/FlashVSR ccac0ac `diffsynth/models/wan_video_dit.py`, `WindowPartition3D` and
`build_local_block_mask_shifted_vec_normal_slide`.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from einops import rearrange
from torch import Tensor

FRAMES, SIDE = 2, 8
BLOCK_TOKENS = FRAMES * SIDE * SIDE


@dataclass(frozen=True, slots=True)
class BlockGrid:
    """A latent frame of `rows` x `columns` tokens, both multiples of 8."""

    rows: int
    columns: int

    def __post_init__(self) -> None:
        if self.rows % SIDE or self.columns % SIDE or not self.rows or not self.columns:
            raise ValueError(
                f"rows and columns must be multiples of {SIDE}; got {self.rows} and {self.columns}"
            )

    @property
    def group_blocks(self) -> int:
        """Blocks in a group."""
        return self.rows // SIDE * (self.columns // SIDE)

    def to_blocks(self, x: Tensor) -> Tensor:
        """Tokens x (1, f h w, n, d) of an even number of latent frames as (n, blocks, 128, d)."""
        return rearrange(
            x, "1 (f t h i w j) n d -> n (f h w) (t i j) d",
            t=FRAMES, h=self.rows // SIDE, i=SIDE, w=self.columns // SIDE, j=SIDE,
        )  # fmt: skip

    def from_blocks(self, x: Tensor) -> Tensor:
        """The reverse of `to_blocks`."""
        return rearrange(
            x, "n (f h w) (t i j) d -> 1 (f t h i w j) n d",
            h=self.rows // SIDE, w=self.columns // SIDE, t=FRAMES, i=SIDE, j=SIDE,
        )  # fmt: skip

    def near(self, reach: int, device: torch.device | str = "cpu") -> Tensor:
        """Which blocks of a group lie within a square of `reach` blocks' side around each other.

        The result is (blocks, blocks) bool: query block by key block. At the picture's edge the
        square is cut, not moved.
        """
        ahead = reach - 1 - reach // 2  # an even side reaches further back
        rows = torch.arange(self.rows // SIDE, device=device)
        columns = torch.arange(self.columns // SIDE, device=device)
        by_row, by_column = (_within(places, reach // 2, ahead) for places in (rows, columns))
        return rearrange(by_row[:, None, :, None] & by_column[None, :, None, :],
                         "a b c d -> (a b) (c d)")  # fmt: skip


def _within(places: Tensor, back: int, ahead: int) -> Tensor:
    """Whether key place j is at most `back` before and `ahead` after query place i, (i, j)."""
    shift = places[None, :] - places[:, None]
    return (shift >= -back) & (shift <= ahead)
