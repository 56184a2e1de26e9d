"""Where the camera stands at each latent frame of a rollout, as far as anything tells.

A camera path tells it, else the words of the prompts. In a flat world the camera moves along a
painted strip: turns and moves sideways are one and the same, and nothing comes round again.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from operator import is_

import torch
from torch import Tensor

from ...model.camera.action import pan_speeds
from ...model.camera.frames import CameraFrames
from .overlap import NO_VIEWS, Points, Views
from .path import CameraPath, runs_of_paths

SCENERY = Points((1.0, 2.0, 4.0))
"""The scenery that two cameras share; depths are in seconds at full speed."""
STRIP = Points((1.0,), rows=1)  # cameras move along it alone: each row of a picture is like another
STRIP_LENS = (1.0, 1.0, 0.5, 0.5)  # at depth 1 the picture is 1 wide
FULL_PAN_COLUMNS = 0.5  # latent columns a latent frame: 1 pixel a frame in the demo's world


class CameraTrack:
    """The views of all latent frames so far; `columns` are the latent picture's."""

    def __init__(self, columns: int, *, flat_world: bool) -> None:
        self.views = NO_VIEWS
        self._columns, self._flat = columns, flat_world
        self._latest: tuple[Views, Sequence[CameraPath], Views] | None = None

    @property
    def scenery(self) -> Points:
        """The points that stand for what a view sees."""
        return STRIP if self._flat else SCENERY

    def ahead(self, paths: Sequence[CameraPath]) -> Views:
        """The views of the next latent frames, whose cameras follow `paths`, one for each.

        A chunk asks before it is made, and again when it is committed.
        """
        if self._latest is not None:
            before, their_paths, views = self._latest
            same = len(their_paths) == len(paths) and all(map(is_, their_paths, paths))
            if before is self.views and same:
                return views
        views = self._ahead(paths)
        self._latest = self.views, tuple(paths), views
        return views

    def _ahead(self, paths: Sequence[CameraPath]) -> Views:
        first = len(self.views)
        poses = self.views.poses[-1] if first else torch.eye(4, dtype=torch.float64)
        following: list[Tensor] = []
        for step in self._steps(paths, first):
            poses = poses @ step
            following.append(poses)
        lenses = [self._lens(path, frame) for frame, path in enumerate(paths, first)]
        return Views(torch.stack(following), torch.tensor(lenses, dtype=torch.float64))

    def extend(self, paths: Sequence[CameraPath]) -> None:
        """Take the next latent frames as made."""
        self.views = self.views.then(self.ahead(paths))

    def _steps(self, paths: Sequence[CameraPath], first: int) -> Tensor:
        """The motions (f, 4, 4) to frames from `first` on, each from the one before.

        They are in units of full speed. Frames of one path are taken together, which is quicker.
        """
        runs = runs_of_paths(paths, range(first, first + len(paths)))
        return torch.cat([self._steps_along(path, frames) for path, frames in runs])

    def _steps_along(self, path: CameraPath, frames: Sequence[int]) -> Tensor:
        steps = path.steps_of(frames)
        if self._flat:
            moves = torch.eye(4, dtype=torch.float64).repeat(len(frames), 1, 1)
            moves[:, 0, 3] = FULL_PAN_COLUMNS / self._columns * strip_pans(path, steps)
            return moves
        steps[:, :3, 3] *= path.frame_s / path.full_step
        return steps

    def _lens(self, path: CameraPath, frame: int) -> Iterable[float]:
        return STRIP_LENS if self._flat else path.lens_at(frame).values


def strip_pans(path: CameraPath, steps: Tensor) -> Tensor:
    """The pans (f,) of a path's motions (f, 4, 4) on a painted strip: -1 left to 1 right."""
    turns, no_lenses = path.turns_of(steps).float(), torch.zeros(len(steps), 4)
    return pan_speeds(CameraFrames(path.in_full_steps(steps), no_lenses, turns, 0, 0))
