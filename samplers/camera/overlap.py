"""How much of what one camera sees another camera sees too."""

from __future__ import annotations

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
        return Views(
            torch.cat([self.poses, later.poses]), torch.cat([self.lenses, later.lenses])
        )

    def at(self, frames: Sequence[int]) -> Views:
        """The views of latent `frames`, counted from the first view."""
        chosen = torch.tensor([*frames], dtype=torch.long)
        return Views(self.poses[chosen], self.lenses[chosen])


NO_VIEWS = Views(torch.zeros(0, 4, 4).double(), torch.zeros(0, 4).double())


def overlap(views: Views, past: Views, points: Points) -> Tensor:
    """The share (f, p) of what each of `views` sees that each `past` view saw, 0 to 1."""
    cameras = zip(views.poses, views.lenses, strict=True)
    world = torch.stack([_seen(pose, lens, points) for pose, lens in cameras])  # (f, points, 3)
    to_camera = inverse(past.poses)  # (p, 4, 4)
    x, y, z = (world @ to_camera[:, None, :3, :3].mT + to_camera[:, None, None, :3, 3]).unbind(-1)
    focal_x, focal_y, centre_x, centre_y = past.lenses[:, :, None, None].unbind(1)
    across, below = focal_x * x / z + centre_x, focal_y * y / z + centre_y  # (p, f, points)
    inside = (across >= 0) & (across <= 1) & (below >= 0) & (below <= 1) & (z > NEAREST)
    return inside.double().mean(-1).T


def _seen(pose: Tensor, lens: Tensor, points: Points) -> Tensor:
    """The points (n, 3), in the world, that a camera (4, 4) with a lens (4,) sees."""
    focal_x, focal_y, centre_x, centre_y = lens
    columns, rows = (
        (torch.arange(count).double() + 0.5) / count for count in (points.columns, points.rows)
    )
    y, x = torch.meshgrid(rows, columns, indexing="ij")
    rays = torch.stack([(x - centre_x) / focal_x, (y - centre_y) / focal_y, torch.ones_like(x)], -1)
    seen = torch.cat([depth * rays.flatten(0, 1) for depth in points.depths])
    return seen @ pose[:3, :3].T + pose[:3, 3]
