"""Pairs for training the second stage: frames as the first stage shows them, and the large truth.

The large frames are rendered at four times the size, so they hold what the small ones cannot.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ...model.refiner.network import FACTOR
from ...model.vae.latent_format import frame_count
from ..world.clips import driven_shot, random_shot, reversal_shot
from ..world.renderer import render
from ..world.scene import Shot, scene

LATENTS = 6  # of a clip: two chunks, 21 frames

FirstStage = Callable[[Sequence[Shot], random.Random, Tensor], Tensor]
"""Shows the small frames (b, t, 3, h, w) of shots as the first stage does, by chance more or less
well.
"""


@dataclass(frozen=True, slots=True)
class CropSize:
    """Frames, and rows and columns of small pixels."""

    frames: int = 9
    rows: int = 32
    columns: int = 48


@dataclass(frozen=True, slots=True)
class Pairs:
    """Small frames (n, t, 3, h, w) and large ones (n, t, 3, 4h, 4w), 8 bits a channel."""

    small: Tensor
    large: Tensor

    def crops(self, clips: Tensor, rng: random.Random, size: CropSize) -> tuple[Tensor, Tensor]:
        """Cut the same place out of `clips` (m,) of both, in [0, 1]."""
        top = rng.randrange(self.small.shape[3] - size.rows + 1)
        left = rng.randrange(self.small.shape[4] - size.columns + 1)
        first = rng.randrange(self.small.shape[1] - size.frames + 1)

        def cut(pictures: Tensor, factor: int) -> Tensor:
            rows = slice(factor * top, factor * (top + size.rows))
            columns = slice(factor * left, factor * (left + size.columns))
            return pictures[clips, first : first + size.frames, :, rows, columns].float() / 255

        return cut(self.small, 1), cut(self.large, FACTOR)


@dataclass(frozen=True, slots=True)
class PairMaker:
    """Makes pairs of random clips; `size` is the small height and width."""

    first_stage: FirstStage
    rng: random.Random
    size: tuple[int, int]

    @torch.no_grad()
    def make(self, count: int) -> Pairs:
        """Render `count` clips of random scripts in both sizes."""
        scripts = (random_shot, reversal_shot, driven_shot)
        shots = [self.rng.choice(scripts)(self.rng, LATENTS) for _ in range(count)]
        clips, (height, width) = scene(shots, frame_count(LATENTS)), self.size
        small = self.first_stage(shots, self.rng, render(clips, height, width))
        return Pairs(_to_bytes(small), _to_bytes(render(clips, FACTOR * height, FACTOR * width)))


class PairPool:
    """Pairs of rendered clips, of which one is replaced at every second draw."""

    def __init__(self, maker: PairMaker, clips: int) -> None:
        self._maker, self._draws = maker, 0
        pairs = [maker.make(1) for _ in range(clips)]
        self.pairs = Pairs(
            torch.cat([pair.small for pair in pairs]), torch.cat([pair.large for pair in pairs])
        )

    def draw(self, count: int, size: CropSize) -> tuple[Tensor, Tensor]:
        """Draw crops of `count` clips: small frames and large ones, in [0, 1]."""
        clips, rng = len(self.pairs.small), self._maker.rng
        if self._draws % 2:
            at, new = rng.randrange(clips), self._maker.make(1)
            self.pairs.small[at], self.pairs.large[at] = new.small[0], new.large[0]
        self._draws += 1
        return self.pairs.crops(torch.tensor(rng.sample(range(clips), count)), rng, size)


def _to_bytes(pictures: Tensor) -> Tensor:
    return (pictures.clamp(0, 1) * 255).round().to(torch.uint8)
