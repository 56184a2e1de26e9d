"""The demo world: a side-view 2.5-D landscape with a bouncing ball, scripted by attribute values.

The landscape is a function of camera position and a per-clip seed. Trees, hills, clouds and the sun
return when the camera does, so a model's memory can be measured. A `Shot` is a clip as a script. A
`Scene` is a batch of clips as numbers per frame, which `renderer.py` draws.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate

import torch
from torch import Tensor

from .attributes import ATTRIBUTES

RAMP_FRAMES = 8  # an attribute change is spread over this many frames
ATTRIBUTE_SIZE = sum(len(values) for values in ATTRIBUTES.values())


def _slices(attributes: Mapping[str, Sequence[str]]) -> dict[str, slice]:
    ends = accumulate(len(values) for values in attributes.values())
    return {
        name: slice(end - len(values), end)
        for (name, values), end in zip(attributes.items(), ends, strict=True)
    }


SLICES: Mapping[str, slice] = _slices(ATTRIBUTES)
"""Where each attribute's weights lie in a vector of ATTRIBUTE_SIZE."""


@dataclass(frozen=True, slots=True)
class Scene:
    """A batch of clips to render; everything is per frame and in world units.

    `attributes` (b, t, ATTRIBUTE_SIZE): mixing weights. `camera` (b, t): horizontal position.
    `seed` (b,): landscape. `ball` (b, 4): bounce phase, bounce period in frames, sway phase, sway
    period in frames.
    """

    attributes: Tensor
    camera: Tensor
    seed: Tensor
    ball: Tensor

    def frames(self, start: int, stop: int) -> Scene:
        """Cut the clips to frames [start, stop); the ball keeps its phase."""
        ball = self.ball.clone()
        ball[:, 0] += start / ball[:, 1]
        ball[:, 2] += start / ball[:, 3]
        return Scene(self.attributes[:, start:stop], self.camera[:, start:stop], self.seed, ball)


@dataclass(frozen=True, slots=True)
class Shot:
    """One clip as a script: (first frame, attribute values) pairs; the first pair starts at frame
    0.

    `drive` are pairs of a first frame and a pan, -1 left to 1 right. They move the camera instead
    of the captions' words; empty: the words do.
    """

    values: tuple[tuple[int, dict[str, str]], ...]
    seed: int
    drive: tuple[tuple[int, float], ...] = ()

    def values_at(self, frame: int) -> dict[str, str]:
        """Return the values in force at `frame`."""
        return [values for start, values in self.values if start <= frame][-1]


def one_hot(values: Mapping[str, str]) -> Tensor:
    """Return attribute `values` as weights (ATTRIBUTE_SIZE,)."""
    out = torch.zeros(ATTRIBUTE_SIZE)
    for name, value in values.items():
        out[SLICES[name].start + ATTRIBUTES[name].index(value)] = 1.0
    return out


def scene(shots: Sequence[Shot], frames: int) -> Scene:
    """Turn scripts into a renderable batch of `frames` frames; changes become linear ramps."""
    rows, cameras, balls = [], [], []
    for shot in shots:
        rng = random.Random(shot.seed)
        weights = _ramp(shot, frames)
        velocity = pan_velocity(shot, frames)
        cameras.append(rng.uniform(-4000, 4000) + velocity.cumsum(0) - velocity[0])
        rows.append(weights)
        balls.append([rng.random(), rng.uniform(36, 44), rng.random(), rng.uniform(140, 180)])
    seeds = torch.tensor([shot.seed % 100_003 for shot in shots])
    return Scene(torch.stack(rows), torch.stack(cameras), seeds, torch.tensor(balls))


def pan_velocity(shot: Shot, frames: int) -> Tensor:
    """The camera's velocity (t,) at every frame, in pixels a frame, right positive."""
    if not shot.drive:
        pan = _ramp(shot, frames)[:, SLICES["pan"]]
        return pan[:, 1] - pan[:, 0]  # right minus left
    velocity = torch.zeros(frames)
    for start, pan_speed in shot.drive:
        velocity[start:] = pan_speed
    return velocity


def _ramp(shot: Shot, frames: int) -> Tensor:
    """Return the mixing weights (t, ATTRIBUTE_SIZE) of every frame."""
    weights = one_hot(shot.values[0][1]).expand(frames, -1).clone()
    for start, values in shot.values[1:]:
        ramp = ((torch.arange(frames) - start + 1) / RAMP_FRAMES).clamp(0, 1)[:, None]
        weights = weights * (1 - ramp) + one_hot(values) * ramp
    return weights
