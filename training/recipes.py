"""Noise levels for training: Diffusion Forcing, and two models to compare it with.

All three models see the same clips, captions, masks and budget. They differ in the noise levels of
the history and of the denoised frames, and so in the histories that a rollout may give them.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

FIRST_PASS = 0.1
"""The share of rows whose noisy frames are all noise, as in a chunk's first pass."""


@dataclass(frozen=True, slots=True)
class BatchLayout:
    """The frames of a batch: `context` clean latent frames, then `noisy` noisy copies.

    `batch` counts clips, `chunk` is the chunk size of the copies, and `memory` is True for a long
    history.
    """

    batch: int
    context: int
    noisy: int
    chunk: int
    memory: bool


@dataclass(frozen=True, slots=True)
class NoiseRecipe:
    """Chunk sizes to draw from, and a function for noise levels (b, context + noisy) in [0, 1].

    Without chunk sizes all denoised frames form one chunk.
    """

    chunk_sizes: tuple[int, ...] | None
    levels: Callable[[random.Random, BatchLayout], Tensor]


def forcing_levels(rng: random.Random, layout: BatchLayout) -> Tensor:
    """Diffusion Forcing (arXiv 2407.01392): give every latent frame its own level."""
    history = history_levels(rng, layout.batch, layout.context, memory=layout.memory)
    noisy = noisy_levels(rng, layout.batch, layout.noisy, layout.chunk, memory=layout.memory)
    return torch.cat([history, noisy], 1)


def teacher_levels(rng: random.Random, layout: BatchLayout) -> Tensor:
    """Teacher forcing: the history is always the clean truth, which no rollout ever has."""
    history = torch.zeros(layout.batch, layout.context)
    noisy = noisy_levels(rng, layout.batch, layout.noisy, layout.chunk, memory=layout.memory)
    return torch.cat([history, noisy], 1)


def sequence_levels(rng: random.Random, layout: BatchLayout) -> Tensor:
    """Full-sequence diffusion: one level for the whole clip, including its history."""
    level = torch.sigmoid(1.2 * torch.randn(layout.batch, 1) + 0.2)
    return level.expand(-1, layout.context + layout.noisy).clone()


def history_levels(rng: random.Random, batch: int, frames: int, *, memory: bool) -> Tensor:
    """Draw a noise level for each clean frame (b, f): mostly low, sometimes any, sometimes pure
    noise.
    """
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
    """Draw a noise level for each noisy frame (b, f); in many rows chunks share a level.

    The model learns memory where noise hides the entering scenery, so memory tasks have higher
    levels, and more often one level for a chunk. A sigmoid never gives level 1, which is where
    every chunk begins, so that some rows have it.
    """
    level = torch.sigmoid(1.2 * torch.randn(batch, frames) + (2.0 if memory else 0.2))
    shared = level[:, ::chunk].repeat_interleave(chunk, 1)[:, :frames]
    row = torch.tensor([[rng.random() < (0.8 if memory else 0.5)] for _ in range(batch)])
    first = torch.tensor([[rng.random() < FIRST_PASS] for _ in range(batch)])
    return torch.where(first, 1.0, torch.where(row, shared, level))


DIFFUSION_FORCING = NoiseRecipe((1, 3, 3), forcing_levels)
RECIPES: Mapping[str, NoiseRecipe] = {
    "diffusion-forcing": DIFFUSION_FORCING,
    "teacher-forcing": NoiseRecipe((1, 3, 3), teacher_levels),
    "full-sequence": NoiseRecipe(None, sequence_levels),
}


def clean_then_noise(_: random.Random, layout: BatchLayout) -> Tensor:
    """A clean history, and noise alone in the copies."""
    history = torch.zeros(layout.batch, layout.context)
    return torch.cat([history, torch.ones(layout.batch, layout.noisy)], 1)


CLEAN_THEN_NOISE = NoiseRecipe((1, 3, 3), clean_then_noise)
"""What a student makes its own clips from."""
