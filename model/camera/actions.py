"""The keys and the mouse that a camera's motion stands for, as Matrix-Game 2 reads them.

For a latent frame it reads those of 12 pictures: three of its own, four of each of the two latent
frames before it, and one of the third. Pictures before the first have what the first one has.
Source: zoheth/Matrix-Game 62dedd1 (MIT), `Matrix-Game-2/pipeline/causal_inference.py`,
`utils/conditions.py` and `wan/modules/action_module.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ...machine.uploads import upload
from ..config import FRAMES_PER_LATENT

PICTURES_READ = 12
MOUSE = 2  # up, then right
PRESSED = 0.1  # of full speed
DEGREES = 15.0  # a picture, of a mouse at 1: Matrix-Game 3's `cam_utils.py`; 2 does not say
MAX_MOUSE = 0.2  # twice what the authors' own arrows send
DRIVING = 2  # keys of a model that drives a car; others have left and right too


@dataclass(frozen=True, slots=True)
class FrameActions:
    """Keys (f, 12, k), 0 or 1, and the mouse (f, 24), of the pictures that f frames read."""

    keys: Tensor
    mouse: Tensor

    def to(self, device: torch.device) -> FrameActions:
        """These keys and mouse moves on `device`."""
        return FrameActions(upload(self.keys, device), upload(self.mouse, device))


def frames_read(frames: Sequence[int]) -> list[int]:
    """The latent frame of each of the 12 pictures that each of `frames` reads, at least 0."""
    pictures = [
        FRAMES_PER_LATENT * frame - PICTURES_READ + i
        for frame in frames
        for i in range(PICTURES_READ)
    ]
    return [-(-max(picture, 0) // FRAMES_PER_LATENT) for picture in pictures]


def actions_of(steps: Tensor, keys: int) -> FrameActions:
    """The actions of pictures whose cameras move by `steps` (f 12, 4, 4) a latent frame.

    Moves are parts of full speed; there are `keys` keys.
    """
    pressed, mouse = pressed_keys(steps, keys), mouse_values(steps)
    if keys == DRIVING:
        mouse[:, 0] = 0  # a car does not look up
    read, looks = (x.unflatten(0, (-1, PICTURES_READ)) for x in (pressed, mouse))
    return FrameActions(read, looks.flatten(1))


def pressed_keys(steps: Tensor, keys: int) -> Tensor:
    """Forward, back, left and right (f, k), 1 where the camera moves that way."""
    right, forward = steps[:, 0, 3], steps[:, 2, 3]
    speeds = torch.stack([forward, -forward, -right, right], 1)[:, :keys]
    return (speeds >= PRESSED).float()


def mouse_values(steps: Tensor) -> Tensor:
    """How a mouse looks up and to the right (f, 2), of turns of a latent frame."""
    across, below, ahead = steps[:, :3, 2].unbind(1)
    up = torch.atan2(-below, torch.hypot(across, ahead))
    turn = torch.atan2(across, ahead)
    degrees = torch.rad2deg(torch.stack([up, turn], 1)) / FRAMES_PER_LATENT
    return (degrees / DEGREES).clamp(-MAX_MOUSE, MAX_MOUSE).float()
