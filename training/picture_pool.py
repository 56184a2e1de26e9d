"""Rendered clips for training the VAE: a pool that is renewed a little as it is used."""

from __future__ import annotations

import random
from dataclasses import dataclass

import torch
from torch import Tensor

from .clips import random_shot, reversal_shot
from .renderer import render
from .world import scene

CLIP_FRAMES = 17  # five latent frames
HELD_OUT_SEED = 10_000_019
BATCH_MADE = 8  # clips rendered together


@dataclass(frozen=True, slots=True)
class PictureSpec:
    """How many clips a pool keeps and how large they are, and how many are held out."""

    clips: int
    held_out: int = 16
    height: int = 64
    width: int = 64


class PicturePool:
    """Clips (n, 17, 3, h, w) in [0, 1], drawn at random; every second draw replaces two."""

    def __init__(self, spec: PictureSpec, rng: random.Random) -> None:
        self.spec, self.rng = spec, rng
        made = [random_clips(rng, BATCH_MADE, spec) for _ in range(spec.clips // BATCH_MADE)]
        self.pictures = torch.cat(made)

    def draw(self, step: int, count: int) -> Tensor:
        """`count` different clips for step number `step`."""
        if step % 2 == 0:
            at = self.rng.randrange(self.spec.clips - 2)
            self.pictures[at : at + 2] = random_clips(self.rng, 2, self.spec)
        return self.pictures[torch.tensor(self.rng.sample(range(self.spec.clips), count))]


def held_out_clips(spec: PictureSpec) -> Tensor:
    """Clips that no pool of a training run contains."""
    return random_clips(random.Random(HELD_OUT_SEED), spec.held_out, spec)


def random_clips(rng: random.Random, count: int, spec: PictureSpec) -> Tensor:
    """`count` rendered clips; starts are random so that ramps fall anywhere."""
    shots = [
        random_shot(rng, 16) if rng.random() < 0.7 else reversal_shot(rng, 16) for _ in range(count)
    ]
    start = rng.randrange(0, 40)
    clips = scene(shots, 61).frames(start, start + CLIP_FRAMES)
    return render(clips, spec.height, spec.width)
