"""Rendered clips for training the VAE: a pool that is partly renewed on every second draw."""

from __future__ import annotations

import random
from dataclasses import dataclass

import torch
from torch import Tensor

from .clips import random_shot, reversal_shot
from .renderer import render
from .scene import scene

CLIP_FRAMES = 17  # five latent frames
HELD_OUT_SEED = 10_000_019
RENDER_BATCH = 8  # clips rendered together


@dataclass(frozen=True, slots=True)
class PictureSpec:
    """Size of a pool's clips, and the number of clips in the pool and held out."""

    clips: int
    held_out: int = 16
    height: int = 64
    width: int = 64


class PicturePool:
    """Clips (n, 17, 3, h, w) in [0, 1], drawn at random. Every second draw replaces two clips."""

    def __init__(self, spec: PictureSpec, rng: random.Random) -> None:
        self.spec, self.rng = spec, rng
        batches = [random_clips(rng, RENDER_BATCH, spec) for _ in range(spec.clips // RENDER_BATCH)]
        self.pictures = torch.cat(batches)

    def draw(self, step: int, count: int) -> Tensor:
        """Draw `count` different clips for step number `step`."""
        if step % 2 == 0:
            at = self.rng.randrange(self.spec.clips - 2)
            self.pictures[at : at + 2] = random_clips(self.rng, 2, self.spec)
        return self.pictures[torch.tensor(self.rng.sample(range(self.spec.clips), count))]


def held_out_clips(spec: PictureSpec) -> Tensor:
    """Render the clips that no pool of a training run contains."""
    return random_clips(random.Random(HELD_OUT_SEED), spec.held_out, spec)


def random_clips(rng: random.Random, count: int, spec: PictureSpec) -> Tensor:
    """Render `count` clips with random starts, so that ramps fall anywhere."""
    shots = [
        random_shot(rng, 16) if rng.random() < 0.7 else reversal_shot(rng, 16) for _ in range(count)
    ]
    start = rng.randrange(0, 40)
    clips = scene(shots, 61).frames(start, start + CLIP_FRAMES)
    return render(clips, spec.height, spec.width)
