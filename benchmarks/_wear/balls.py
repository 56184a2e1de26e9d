"""How many balls a picture of the demo world shows.

The ball always has the same size and light, so its picture is a template. A place shows a ball
where the picture differs from the template by no more than MOST_ERROR. In decoded truth of all 72
looks of the world with a coloured ball, the ball differs by less than .1 (all but one by less than
.07), and any other place by .11 or more. A smeared ball counts as missing. A white ball is too like
snow and clouds, so it is not counted.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ...training.world.renderer import BALL_RADIUS, ball_centre, render
from ...training.world.scene import Shot, scene

HEIGHT = 64  # pixels, one world unit each
RENDERED = 180  # frames, among which the ball is best aligned with the pixels in one
REACH = int(BALL_RADIUS) - 1  # pixels around the centre; the rim mixes with the scenery
MOST_ERROR = 0.09  # root mean square, of the range of 1
APART = 9  # pixels between two balls, at least
UNLIKE_SCENERY = ("red", "blue", "yellow", "purple")


@dataclass(frozen=True, slots=True)
class BallTemplate:
    """The ball's colours (3, k, k), 0 outside the ball, and its shape (1, k, k)."""

    colours: Tensor
    shape: Tensor

    @classmethod
    def of(cls, values: Mapping[str, str]) -> BallTemplate:
        """The ball in a world of attribute `values`."""
        batch = scene([Shot(((0, {**values}),), 0)], RENDERED)
        x, y = (centre[0] - 0.5 for centre in ball_centre(batch, HEIGHT))
        best = int(((x - x.round()).abs() + (y - y.round()).abs()).argmin())
        picture = render(batch.frames(best, best + 1), HEIGHT, HEIGHT)[0, 0]
        column, row = int(x[best].round()), int(y[best].round())
        side = torch.arange(-REACH, REACH + 1)
        shape = (torch.hypot(side[:, None].float(), side.float()) <= REACH).float()[None]
        around = picture[:, row - REACH : row + REACH + 1, column - REACH : column + REACH + 1]
        return cls(around * shape, shape)

    def error(self, frames: Tensor) -> Tensor:
        """Return the error (t, h, w) at every place of frames (t, 3, H, W) with a whole ball."""
        shape = self.shape.expand_as(self.colours)[None]
        squares = F.conv2d(frames.square(), shape) - 2 * F.conv2d(frames, self.colours[None])
        total = squares + self.colours.square().sum()
        return (total[:, 0] / shape.sum()).clamp(min=0).sqrt()

    def column(self, picture: Tensor) -> int:
        """Return the column in which picture (3, H, W) is most like the ball."""
        error = self.error(picture[None])[0]
        return int(error.argmin()) % error.shape[-1] + REACH

    def count(self, frames: Tensor) -> list[int]:
        """Return the number of balls in each of frames (t, 3, H, W)."""
        error = self.error(frames)
        least = -F.max_pool2d(-error[:, None], 2 * APART - 1, 1, APART - 1)[:, 0]
        balls = (error == least) & (error <= MOST_ERROR)
        return [int(number) for number in balls.sum((1, 2))]
