"""Wan's 3-D rotary position embedding, computed for any position and never tabulated.

The head dimension d is split into temporal, row and column parts of d - 4(d//6), 2(d//6), 2(d//6)
(44/42/42 at 128), each with its own frequency base 10000^(-2j/part); pairs are adjacent elements.
Angles are float64, so a position of a million is as exact as position 0 (Wan-Video/Wan2.1
`wan/modules/model.py`, whose table ends at 1024).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

THETA = 10_000.0
TOKENS_AT_ONCE = 8192


@dataclass(frozen=True, slots=True)
class Rotation:
    """Cosine and sine of every token's angles, (s, 1, d/2) float32, tokens in (f, h, w) order."""

    cos: Tensor
    sin: Tensor


def rotation(
    frames: Sequence[int],
    rows: int,
    columns: int,
    head_dim: int,
    device: torch.device | str = "cpu",
) -> Rotation:
    """The rotation of tokens at latent-frame positions `frames` on a grid of `rows` x `columns`
    tokens.
    """
    t_part, s_part = head_dim - 4 * (head_dim // 6), 2 * (head_dim // 6)
    f = _angles(torch.tensor(list(frames), dtype=torch.float64), t_part).view(-1, 1, 1, t_part // 2)
    h = _angles(torch.arange(rows, dtype=torch.float64), s_part).view(1, -1, 1, s_part // 2)
    w = _angles(torch.arange(columns, dtype=torch.float64), s_part).view(1, 1, -1, s_part // 2)
    grid = (len(frames), rows, columns)
    parts = [part.expand(*grid, -1) for part in (f, h, w)]
    angles = torch.cat(parts, -1).reshape(-1, 1, head_dim // 2)  # (s, 1, d/2)
    return Rotation(angles.cos().float().to(device), angles.sin().float().to(device))


@dataclass(frozen=True, slots=True)
class PositionTables:
    """The rotations of some times and of all places of a latent frame, to look tokens up in: the
    pairs of elements that turn with time (t, .), and those that turn with place (p, .).
    """

    times: Rotation
    places: Rotation

    def of(self, times: Tensor, places: Tensor) -> Rotation:
        """The rotation of tokens by the number of their time in the table, and their place.

        Both are whole numbers of one shape (...); cosines and sines are (..., d/2).
        """
        cos, sin = (
            torch.cat([F.embedding(times, time), F.embedding(places, place)], -1)
            for time, place in (
                (self.times.cos, self.places.cos),
                (self.times.sin, self.places.sin),
            )
        )
        return Rotation(cos, sin)


def position_tables(
    frames: Sequence[int],
    rows: int,
    columns: int,
    head_dim: int,
    device: torch.device | str = "cpu",
) -> PositionTables:
    """Tables of latent-frame positions `frames`."""
    times = rotation(frames, 1, 1, head_dim, device)
    places = rotation([0], rows, columns, head_dim, device)
    pairs = (head_dim - 4 * (head_dim // 6)) // 2
    of_times, of_places = (
        Rotation(*(x[:, 0, at].contiguous() for x in (one.cos, one.sin)))
        for one, at in ((times, slice(pairs)), (places, slice(pairs, None)))
    )
    return PositionTables(of_times, of_places)


def rotate(x: Tensor, by: Rotation) -> Tensor:
    """Rotate x (b, s, n, d); computed in float32, returned in x's dtype."""
    x32 = x.float()
    a, b = x32[..., 0::2], x32[..., 1::2]  # each (b, s, n, d/2)
    turned = torch.stack([a * by.cos - b * by.sin, a * by.sin + b * by.cos], -1)
    return turned.flatten(-2).to(x.dtype)


def rotate_into(out: Tensor, x: Tensor, by: Rotation) -> None:
    """Write x (b, s, n, d), rotated, to the front of `out` (b, t, n, d), which may be x itself.

    In pieces, so that the float32 copies of a long history stay small.
    """
    for first in range(0, x.shape[1], TOKENS_AT_ONCE):
        at = slice(first, min(first + TOKENS_AT_ONCE, x.shape[1]))
        out[:, at] = rotate(x[:, at], Rotation(by.cos[at], by.sin[at]))


def _angles(positions: Tensor, part: int) -> Tensor:
    frequencies = THETA ** (-torch.arange(0, part, 2, dtype=torch.float64) / part)
    return torch.outer(positions, frequencies)  # (p, part/2)
