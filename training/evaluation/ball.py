"""The ball as pixels show it: whether it is there, how often, and how sharp.

The oracle has no class for *absent*. So here the ball is looked for: its shaded disc, in each of
its colours under the light that the prompt names, is laid over every place of the picture. The
misfit is the mean squared difference within the disc. `calibrate_detectors` measures how often
these readings err, on rendered and on decoded truth.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor

from ..world.attributes import ATTRIBUTES
from ..world.renderer import BALL_RADIUS, ball_disc

PRESENT = 0.0022
"""A greater misfit than this is no ball, or a faint one."""
APART = 9.0  # pixels between two balls; nearer places are the same one
REACH = round(BALL_RADIUS) + 1  # pixels from the middle of a template to its edge
PROFILE = (4.5, 11.5)  # pixels from the ball's centre between which its edge lies


@dataclass(frozen=True, slots=True)
class Ball:
    """A reading of one picture: the best place's misfit, the number of balls, and sharpness.

    `x` and `y` are the place in pixels. `sharpness` is the steepest step, in one pixel, of the way
    from the ball's colour to its surroundings: 1 for a hard edge, less for a blurred one.
    """

    misfit: float
    count: int
    sharpness: float
    x: int
    y: int

    @property
    def is_present(self) -> bool:
        """Whether a whole ball is there, neither faint nor missing."""
        return self.misfit <= PRESENT


@cache
def _disc() -> Tensor:
    """The opacity (1, h, w) of a disc around the middle pixel, without its soft edge."""
    side = torch.arange(-REACH, REACH + 1).float()
    return (torch.hypot(side[:, None], side[None]) <= BALL_RADIUS - 1).float()[None]


@cache
def templates(time: str, weather: str) -> Tensor:
    """The shaded disc of every colour of the ball (5, 3, h, w) in one light."""
    side = torch.arange(-REACH, REACH + 1).float()
    x, y = side[None, :].expand(len(side), -1), side[:, None].expand(-1, len(side))
    light = {"time": time, "weather": weather}
    return torch.stack([ball_disc({**light, "ball": ball}, x, y) for ball in ATTRIBUTES["ball"]])


def misfits(pictures: Tensor, values: Mapping[str, str]) -> Tensor:
    """The misfit (k, h, w) of the best colour at every place of pictures (k, 3, H, W)."""
    disc, discs = _disc(), templates(values["time"], values["weather"])
    pixels = 3 * disc.sum()
    energy = F.conv2d(pictures.square(), disc[None].expand(1, 3, -1, -1))
    product = F.conv2d(pictures, discs * disc)
    own = (discs.square() * disc).sum((1, 2, 3)).view(-1, 1, 1)
    return ((energy - 2 * product + own) / pixels).amin(1).clamp(min=0)


def read_balls(pictures: Tensor, values: Mapping[str, str]) -> list[Ball]:
    """Read every picture of (k, 3, H, W) in [0, 1], whose prompt has attribute `values`."""
    return [_read(picture, misfit) for picture, misfit in
            zip(pictures, misfits(pictures, values), strict=True)]  # fmt: skip


def _read(picture: Tensor, misfit: Tensor) -> Ball:
    at = int(misfit.argmin())
    y, x = at // misfit.shape[1] + REACH, at % misfit.shape[1] + REACH
    return Ball(float(misfit.min()), count_places(misfit), sharpness(picture, x, y), x, y)


def count_places(misfit: Tensor) -> int:
    """How many places (h, w) fit, each the best within APART pixels."""
    rows = torch.arange(misfit.shape[0])[:, None].float()
    columns = torch.arange(misfit.shape[1])[None].float()
    left, count = misfit.clone(), 0
    while float(left.min()) <= PRESENT:
        at = int(left.argmin())
        y, x = divmod(at, misfit.shape[1])
        left[torch.hypot(rows - y, columns - x) < 2 * APART] = torch.inf
        count += 1
    return count


def sharpness(picture: Tensor, x: int, y: int) -> float:
    """The steepest step of the mean way from a ball's colour at (x, y) to what is around it."""
    rows = torch.arange(picture.shape[1])[:, None].float() - y
    columns = torch.arange(picture.shape[2])[None].float() - x
    radius = torch.hypot(rows, columns)
    rings = [(radius >= r) & (radius < r + 1) for r in torch.arange(*PROFILE).tolist()]
    profile = torch.stack([picture[:, ring].mean(1) for ring in rings if bool(ring.any())])
    across = profile[0] - profile[-1]
    steps = (profile[:-1] - profile[1:]) @ across
    return float(steps.max() / across.square().sum().clamp(min=1e-6))
