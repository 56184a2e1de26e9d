"""Where a camera path leads, step by step from frame 0."""

from __future__ import annotations

from functools import reduce
from operator import matmul

from torch import Tensor

from longtake.samplers.camera.path import CameraPath


def step(path: CameraPath, frame: int) -> Tensor:
    """The motion (4, 4) from latent frame `frame` - 1 to `frame`; none for frame 0."""
    return path.steps_of([frame])[0]


def pose(path: CameraPath, frame: int) -> Tensor:
    """The camera at a latent frame in the axes of frame 0, camera to world (4, 4)."""
    return reduce(matmul, path.steps_of(range(frame + 1)))
