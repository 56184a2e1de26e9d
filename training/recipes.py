"""What noise a model is trained on: Diffusion Forcing, and the two twins it is compared with.

All three see the same clips, captions, masks and budget; they differ in the noise levels of the
history and of what is denoised, and so in what a rollout may later hand them.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Layout:
    """A batch of `batch` clips: `context` clean latent frames, then copies of `noisy` of them in
    chunks of `chunk`; `memory` where the history is long.
    """

    batch: int
    context: int
    noisy: int
    chunk: int
    memory: bool


@dataclass(frozen=True, slots=True)
class Recipe:
    """Chunk sizes to draw from (None: everything that is denoised is one chunk) and noise levels
    (b, context + noisy) in [0, 1].
    """

    chunk_sizes: tuple[int, ...] | None
    levels: Callable[[random.Random, Layout], Tensor]


def forcing_levels(rng: random.Random, layout: Layout) -> Tensor:
    """Diffusion Forcing (arXiv 2407.01392): a level of its own for every latent frame."""
    history = history_levels(rng, layout.batch, layout.context, memory=layout.memory)
    noisy = noisy_levels(rng, layout.batch, layout.noisy, layout.chunk, memory=layout.memory)
    return torch.cat([history, noisy], 1)


def teacher_levels(rng: random.Random, layout: Layout) -> Tensor:
    """Teacher forcing: the history is always the clean truth, which no rollout ever has."""
    history = torch.zeros(layout.batch, layout.context)
    noisy = noisy_levels(rng, layout.batch, layout.noisy, layout.chunk, memory=layout.memory)
    return torch.cat([history, noisy], 1)


def sequence_levels(rng: random.Random, layout: Layout) -> Tensor:
    """Full-sequence diffusion: one level for the whole clip, its history included."""
    level = torch.sigmoid(1.2 * torch.randn(layout.batch, 1) + 0.2)
    return level.expand(-1, layout.context + layout.noisy).clone()


def history_levels(rng: random.Random, batch: int, frames: int, *, memory: bool) -> Tensor:
    """Noise level of each clean frame (b, f): mostly little, sometimes any, sometimes all noise."""
    return torch.stack([_history_row(rng, frames, memory=memory) for _ in range(batch)])


def _history_row(rng: random.Random, frames: int, *, memory: bool) -> Tensor:
    kind = rng.random()
    if kind < (0.85 if memory else 0.65):
        exact = rng.random() < 0.3
        return torch.zeros(frames) if exact else rng.uniform(0, 0.25) * torch.rand(frames)
    return torch.rand(frames) if kind < 0.9 else torch.ones(frames)


def noisy_levels(
    rng: random.Random, batch: int, frames: int, chunk: int, *, memory: bool
) -> Tensor:
    """Noise level of each noisy frame (b, f): its own, or in half of the rows its chunk's.

    Memory is learned where noise hides what enters the picture, so its levels are higher.
    """
    level = torch.sigmoid(1.2 * torch.randn(batch, frames) + (1.0 if memory else 0.2))
    shared = level[:, ::chunk].repeat_interleave(chunk, 1)[:, :frames]
    row = torch.tensor([[rng.random() < 0.5] for _ in range(batch)])
    return torch.where(row, shared, level)


DIFFUSION_FORCING = Recipe((1, 3, 3), forcing_levels)
RECIPES: Mapping[str, Recipe] = {
    "diffusion-forcing": DIFFUSION_FORCING,
    "teacher-forcing": Recipe((1, 3, 3), teacher_levels),
    "full-sequence": Recipe(None, sequence_levels),
}
