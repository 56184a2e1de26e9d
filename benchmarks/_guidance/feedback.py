"""How much of an error in the past the next chunk continues.

Below 1 an error dies out from chunk to chunk. Above 1 it grows until nothing of the picture is
left, because each chunk becomes the past of the next.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ...model.preset import DEMO
from ...model.vae.latent_format import SPATIAL_FACTOR
from ...training.evaluation.kit import Kit, Recipe, sample
from ...training.evaluation.measures import HELD_OUT_SEED, as_chunks
from ...training.world.attributes import caption, random_values
from ...training.world.dataset import encode_shots
from ...training.world.scene import Shot

HISTORY = 24  # latent frames
ERROR_SIZE = 0.1  # in standard deviations of latents
COLOUR_KEPT, CONTRAST_KEPT = "colour error kept", "contrast error kept"
Figures = dict[str, float]


@dataclass(frozen=True, slots=True)
class TrueStart:
    """A seed's prompt, and latents (f, c, h, w) of its rendered clip: `past`, then `truth`."""

    seed: int
    prompt: str
    past: Tensor
    truth: Tensor


def script(seed: int) -> tuple[str, Shot]:
    """Return a random prompt and its shot."""
    rng = random.Random(HELD_OUT_SEED + 990_000 + seed)
    values = random_values(rng)
    return caption(values, rng), Shot(((0, values),), rng.randrange(2**31))


def true_start(kit: Kit, seed: int, columns: int) -> TrueStart:
    """Return a seed's start, `columns` latent columns wide."""
    prompt, shot = script(seed)
    frames, width = HISTORY + DEMO.chunk_frames, columns * SPATIAL_FACTOR
    latents = encode_shots(kit.vae, [shot], frames, width)[0].float()
    return TrueStart(seed, prompt, latents[:HISTORY], latents[HISTORY:])


def next_chunk(kit: Kit, recipe: Recipe, start: TrueStart, past: Tensor) -> Tensor:
    """Return the latents (f, c, h, w) generated after `past`, from noise that only the seed
    determines.
    """
    prompts = [(0, start.prompt)]
    [chunk] = sample(kit, recipe, prompts, start.seed, as_chunks(past))
    return chunk.latents


def errors_kept(generate: Callable[[Tensor], Tensor], start: TrueStart) -> Figures:
    """Return how much of an error in the past the next chunk, chunk by `generate`, contains.

    The errors are another colour (an offset of a random direction) and more contrast.
    """
    past, random_ = start.past, torch.Generator().manual_seed(start.seed)
    colour = ERROR_SIZE * torch.randn(past.shape[1], 1, 1, generator=random_)
    chunk = generate(past)
    return {
        COLOUR_KEPT: part(generate(past + colour) - chunk, colour),
        CONTRAST_KEPT: part(generate((1 + ERROR_SIZE) * past) - chunk, ERROR_SIZE * chunk),
    }


def part(change: Tensor, of: Tensor) -> float:
    """Return the projection of `change` on `of`, as a share of `of`."""
    whole = of.expand_as(change)
    return float((change * whole).sum() / whole.square().sum())
