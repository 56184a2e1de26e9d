"""Wan's 3-D rotary position embedding, computed for any position and never from a fixed table.

The head dimension d is split into temporal, row and column parts of d - 4(d//6), 2(d//6), 2(d//6)
(44/42/42 at 128), each with its own frequency base 10000^(-2j/part); pairs are adjacent elements.
Angles are float64, so a position of a million is as exact as position 0 (Wan-Video/Wan2.1
`wan/modules/model.py`, whose table ends at 1024).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import torch
import torch.nn.functional as F
from torch import Tensor

from ..machine.rehearsed_device import device_kind
from ..machine.uploads import upload
from .pieces import piece_starts

THETA = 10_000.0
TOKENS_AT_ONCE = 8192
"""Tokens rotated at once, so that the float32 copies of a long history stay small."""


PAIRS_IN_STEP = 8
"""Complex numbers that torch's loops take at once, or a multiple of it."""
PAIRS_OF_ONE_THREAD = 1 << 15
"""Complex numbers up to which torch gives a product to one thread, in all its loops."""


Turn = Callable[[Tensor, Tensor, Tensor], Tensor]
"""(x, cos, sin) -> x rotated; see `rotate_plain`."""


def rotate_plain(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotate x (..., d); computed in float32, returned in x's dtype."""
    x32 = x.float()
    quarter = times_i(x32) if x.device.type == "cpu" else quarter_turn(x32)
    return (x32 * cos + quarter * sin).to(x.dtype)


def rotate_pairs(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Do the same pair by pair: slower as it stands, but a compiler makes one loop of it."""
    a, b = x.float().unflatten(-1, (-1, 2)).unbind(-1)
    c, s = cos[..., 0::2], sin[..., 0::2]
    return torch.stack([a * c - b * s, b * c + a * s], -1).flatten(-2).to(x.dtype)


@dataclass(frozen=True)
class Rotation:
    """Cosine and sine of every token's angles, (s, 1, d) float32; tokens in (f, h, w) order.

    Both elements of a pair have the same values. `turn` rotates by them.
    """

    cos: Tensor
    sin: Tensor
    turn: Turn = rotate_plain

    @cached_property
    def units(self) -> Tensor:
        """The rotations as complex numbers of length 1, (s, 1, d/2): one for each pair."""
        return torch.complex(self.cos[..., 0::2], self.sin[..., 0::2])

    def of(self, tokens: slice) -> Rotation:
        """The rotation of some of the tokens."""
        return replace(self, cos=self.cos[tokens], sin=self.sin[tokens])


def rotation(
    frames: Sequence[int],
    rows: int,
    columns: int,
    head_dim: int,
    device: torch.device | str = "cpu",
    step: int = 1,
) -> Rotation:
    """The rotation of the tokens of latent frames at positions `frames`.

    A latent frame is a grid of `rows` x `columns` tokens. Each stands for `step` x `step` places,
    and has the place in their middle.
    """
    tables = position_tables(frames, rows, columns, head_dim, device, step)
    grid = len(frames), rows * columns, -1
    cos, sin = (
        torch.cat([time.unsqueeze(1).expand(grid), place.unsqueeze(0).expand(grid)], -1)
        for time, place in (
            (tables.times.cos, tables.places.cos),
            (tables.times.sin, tables.places.sin),
        )
    )
    return Rotation(cos.view(-1, 1, head_dim), sin.view(-1, 1, head_dim))


def column_frequencies(head_dim: int) -> Tensor:
    """Radians (p,) float64 that each pair turns by from one column to the next.

    These are the last pairs of a head.
    """
    return _frequencies(2 * (head_dim // 6), torch.device("cpu"))


class LatestRotation:
    """A cache of one rotation: every step of a chunk asks for the same one."""

    def __init__(self, turn: Turn = rotate_plain) -> None:
        self._turn = turn
        self._latest: tuple[tuple[object, ...], Rotation] | None = None

    def get(
        self,
        frames: Sequence[int],
        rows: int,
        columns: int,
        head_dim: int,
        device: torch.device | str = "cpu",
        step: int = 1,
    ) -> Rotation:
        """The result of `rotation`, computed again only when an argument changes."""
        key = tuple(frames), rows, columns, head_dim, torch.device(device), step
        if self._latest is None or self._latest[0] != key:
            self._latest = key, replace(rotation(*key), turn=self._turn)
        return self._latest[1]


@dataclass(frozen=True, slots=True)
class PositionTables:
    """Rotations of some times and of all places within a latent frame, to look tokens up in.

    `times` (t, .) are the elements that depend on time, `places` (p, .) those that depend on place.
    """

    times: Rotation
    places: Rotation

    def look_up(self, times: Tensor, places: Tensor) -> Rotation:
        """The rotation of tokens by their row in the table of times, and their place.

        Both are integers of one shape (...); cosines and sines are (..., d).
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
    step: int = 1,
) -> PositionTables:
    """Tables for latent-frame positions `frames` and a grid of `rows` x `columns` tokens."""
    times, places = _angle_tables(frames, (rows, columns, step), head_dim, device)
    return PositionTables(by_angles(times, device), by_angles(places, device))


def rotate(x: Tensor, by: Rotation) -> Tensor:
    """Rotate x (b, s, n, d); computed in float32, returned in x's dtype."""
    rotated = _rotate_part(x, by)
    return rotated if rotated.dtype is x.dtype else rotated.to(x.dtype)


def _rotate_part(x: Tensor, by: Rotation, tokens: slice | None = None) -> Tensor:
    """Rotate x (b, s, n, d) as all or some `tokens` of `by` are; in float32 or in x's dtype."""
    if by.turn is rotate_plain and suits_complex(x):
        return _as_real(_as_complex(x) * (by.units if tokens is None else by.units[tokens]))
    part = by if tokens is None else by.of(tokens)
    return by.turn(x, part.cos, part.sin)


def suits_complex(x: Tensor) -> bool:
    """Whether complex products rotate x in a third of the time, and always to the same bits.

    On CUDA they do. torch's CPU loops take several complex numbers at once and round every real
    product. What is left over at the end of a row, or of a thread's share, they may round
    differently. So on a CPU only rows without a rest suit, and no more than one thread takes.
    """
    kind, pairs = device_kind(x), x.shape[-1] // 2
    whole = pairs % PAIRS_IN_STEP == 0 and x.numel() // 2 < PAIRS_OF_ONE_THREAD
    return kind == "cuda" or (kind == "cpu" and whole)


def quarter_turn(x: Tensor) -> Tensor:
    """Turn pairs (a, b) of adjacent elements into (-b, a)."""
    return torch.stack([-x[..., 1::2], x[..., 0::2]], -1).flatten(-2)


def times_i(x: Tensor) -> Tensor:
    """Do the same with pairs as complex numbers, which is several times faster on a CPU.

    This product is exact, wherever a number lies in memory.
    """
    return _as_real(_as_complex(x) * 1j)


def _as_complex(x: Tensor) -> Tensor:
    """Pairs (a, b) of adjacent elements (..., d) as the numbers a + bi (..., d/2) of float32.

    Nothing is copied but halves. One operation, which knows no gradient, does the work of two: on a
    small model each of them costs as much as a product.
    """
    x32 = x if x.dtype is torch.float32 else x.float()
    if torch.is_grad_enabled():
        return torch.view_as_complex(x32.unflatten(-1, (-1, 2)))
    return x32.view(torch.complex64)


def _as_real(x: Tensor) -> Tensor:
    """The pairs (..., d) of complex numbers (..., d/2); no copy."""
    if torch.is_grad_enabled():
        return torch.view_as_real(x).flatten(-2)
    return x.view(torch.float32)


def rotate_into(out: Tensor, x: Tensor, by: Rotation) -> None:
    """Write x (b, s, n, d), rotated, to the front of `out` (b, t, n, d), which may be x itself."""
    for first in piece_starts(x.shape[1], TOKENS_AT_ONCE, out):
        at = slice(first, min(first + TOKENS_AT_ONCE, x.shape[1]))
        out[:, at] = _rotate_part(x[:, at], by, at)  # rounded as it is written


def _angle_tables(
    frames: Sequence[int], grid: tuple[int, int, int], head_dim: int, device: torch.device | str
) -> tuple[Tensor, Tensor]:
    """The angles (t, .) and (p, .) of pairs that depend on latent frame and place.

    They are computed on the CPU whatever the device, except that a rehearsal has no numbers at all.
    """
    on = torch.device("meta" if torch.device(device).type == "meta" else "cpu")
    times = torch.tensor([*frames], dtype=torch.float64, device=on)
    return _angles(times, head_dim - 4 * (head_dim // 6)), _place_angles(*grid, head_dim, on)


def _place_angles(rows: int, columns: int, step: int, head_dim: int, on: torch.device) -> Tensor:
    """The angles (p, .) of pairs that depend on row and column, places row by row."""
    part = 2 * (head_dim // 6)
    counts = (torch.arange(count, dtype=torch.float64, device=on) for count in (rows, columns))
    sides = (step * count + (step - 1) / 2 for count in counts)
    h, w = (_angles(side, part) for side in sides)
    grid = rows, columns, -1
    return torch.cat([h.unsqueeze(1).expand(grid), w.unsqueeze(0).expand(grid)], -1).flatten(0, 1)


def _angles(positions: Tensor, part: int) -> Tensor:
    return torch.outer(positions, _frequencies(part, positions.device))  # (p, part/2)


def _frequencies(part: int, on: torch.device) -> Tensor:
    pairs = torch.arange(0, part, 2, dtype=torch.float64, device=on)
    frequencies: Tensor = THETA ** (-pairs / part)
    return frequencies


def by_angles(angles: Tensor, device: torch.device | str) -> Rotation:
    """The rotation of pairs by angles (..., d/2) float64."""
    tables = (x.float().repeat_interleave(2, -1) for x in (angles.cos(), angles.sin()))
    cos, sin = (upload(table, device) for table in tables)
    return Rotation(cos, sin)
