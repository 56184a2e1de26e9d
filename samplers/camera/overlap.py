"""How much of what one camera sees another camera sees too."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .rigid import inverse

NEAREST = 1e-6  # nearer points are beside or behind a camera


@dataclass(frozen=True, slots=True)
class Points:
    """The points that stand for what a view sees: a grid over its picture, at each of `depths`."""

    depths: tuple[float, ...]
    columns: int = 32
    rows: int = 8


@dataclass(frozen=True, slots=True)
class Views:
    """Cameras at f latent frames: `poses` (f, 4, 4), camera to world, and `lenses` (f, 4).

    A lens is focal lengths and centre, x before y, in parts of the picture's width and height.
    All are float64.
    """

    poses: Tensor
    lenses: Tensor

    def __len__(self) -> int:
        return len(self.poses)

    def then(self, later: Views) -> Views:
        """These views, followed by later ones."""
        return Views(torch.cat([self.poses, later.poses]), torch.cat([self.lenses, later.lenses]))

    def at(self, frames: Sequence[int]) -> Views:
        """The views of latent `frames`, counted from the first view."""
        chosen = torch.tensor([*frames], dtype=torch.long)
        return Views(self.poses[chosen], self.lenses[chosen])


NO_VIEWS = Views(torch.zeros(0, 4, 4).double(), torch.zeros(0, 4).double())


def overlap(views: Views, past: Views, points: Points) -> Tensor:
    """The share (f, p) of what each of `views` sees that each `past` view saw, 0 to 1."""
    world = _seen(views, points)  # (f, points, 3)
    to_camera = inverse(past.poses)  # (p, 4, 4)
    x, y, z = (world @ to_camera[:, None, :3, :3].mT + to_camera[:, None, None, :3, 3]).unbind(-1)
    focal_x, focal_y, centre_x, centre_y = past.lenses[:, :, None, None].unbind(1)
    across, below = focal_x * x / z + centre_x, focal_y * y / z + centre_y  # (p, f, points)
    inside = (across >= 0) & (across <= 1) & (below >= 0) & (below <= 1) & (z > NEAREST)
    return inside.double().mean(-1).T


@functools.cache
def _grid(points: Points) -> tuple[Tensor, Tensor]:
    """Columns and rows (rows, columns) of a picture's points, in parts of its width and height."""
    with torch.inference_mode(False):  # for every caller, whatever its mode
        columns, rows = (
            (torch.arange(count).double() + 0.5) / count for count in (points.columns, points.rows)
        )
        y, x = torch.meshgrid(rows, columns, indexing="ij")
    return x, y


def _seen(views: Views, points: Points) -> Tensor:
    """The points (f, n, 3), in the world, that each of `views` sees."""
    focal_x, focal_y, centre_x, centre_y = views.lenses[:, :, None, None].unbind(1)  # (f, 1, 1)
    x, y = _grid(points)
    across, below = (x - centre_x) / focal_x, (y - centre_y) / focal_y
    rays = torch.stack([across, below, torch.ones_like(across)], -1).flatten(1, 2)
    seen = torch.cat([depth * rays for depth in points.depths], 1)
    return seen @ views.poses[:, :3, :3].mT + views.poses[:, None, :3, 3]
