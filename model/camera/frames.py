"""What a model's own module reads of a camera, for a pass or for its history."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

NO_TRAVEL = torch.zeros(1)
"""The travel of cameras that stay in their place, or whose model does not ask for it."""


@dataclass(frozen=True, slots=True)
class CameraFrames:
    """A camera at f latent frames of a latent picture of `rows` x `columns`.

    `steps` (f, 4, 4): each frame's motion since the frame before, camera to world, float64; moves
    are parts of a full step, at most 1 long. `lenses` (f, 4): focal lengths and centre, x before y,
    in parts of the picture's width and height. `turns` (f,): degrees a second to the right.
    `travel` (f,): how far a camera came along a painted strip, in latent frames at full pan.
    """

    steps: Tensor
    lenses: Tensor
    turns: Tensor
    rows: int
    columns: int
    travel: Tensor = NO_TRAVEL


@dataclass(frozen=True, slots=True)
class PlacedCameras:
    """Cameras of f latent frames, or of their pictures, in the axes of one of them.

    `poses` (f, 4, 4) take a camera's axes to the common ones, float64; moves add up parts of a full
    step. `lenses` (f, 4) are those of `CameraFrames`.
    """

    poses: Tensor
    lenses: Tensor
