"""What becomes of an error of the past in the chunk after it.

Below 1 an error dies out from chunk to chunk; above 1 it grows until nothing of the picture is
left, since the next chunk has this one as its past.
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
AMISS = 0.1  # an error's size, in standard deviations of latents
COLOUR_KEPT, CONTRAST_KEPT = "colour error kept", "contrast error kept"
Figures = dict[str, float]


@dataclass(frozen=True, slots=True)
class TrueStart:
    """A seed's prompt, and latents (f, c, h, w) of a rendered clip of it: `past`, then `truth`."""

    seed: int
    prompt: str
    past: Tensor
    truth: Tensor


def script(seed: int) -> tuple[str, Shot]:
    """A random prompt, and a shot of it."""
    rng = random.Random(HELD_OUT_SEED + 990_000 + seed)
    values = random_values(rng)
    return caption(values, rng), Shot(((0, values),), rng.randrange(2**31))


def true_start(kit: Kit, seed: int, columns: int) -> TrueStart:
    """A seed's, so many latent columns wide."""
    prompt, shot = script(seed)
    frames, width = HISTORY + DEMO.chunk_frames, columns * SPATIAL_FACTOR
    latents = encode_shots(kit.vae, [shot], frames, width)[0].float()
    return TrueStart(seed, prompt, latents[:HISTORY], latents[HISTORY:])


def next_chunk(kit: Kit, recipe: Recipe, start: TrueStart, past: Tensor) -> Tensor:
    """The latents (f, c, h, w) made after a `past`, of noise that the seed alone decides."""
    prompts = [(0, start.prompt)]
    [chunk] = sample(kit, recipe, prompts, start.seed, as_chunks(past))
    return chunk.latents


def errors_kept(go_on: Callable[[Tensor], Tensor], start: TrueStart) -> Figures:
    """How much of another colour (an offset of a random direction) and of more contrast in the past
    there is in the chunk that it makes `go_on` with.
    """
    past, random_ = start.past, torch.Generator().manual_seed(start.seed)
    colour = AMISS * torch.randn(past.shape[1], 1, 1, generator=random_)
    made = go_on(past)
    return {
        COLOUR_KEPT: part(go_on(past + colour) - made, colour),
        CONTRAST_KEPT: part(go_on((1 + AMISS) * past) - made, AMISS * made),
    }


def part(change: Tensor, of: Tensor) -> float:
    """How much `of` a tensor is in a `change`: its projection."""
    whole = of.expand_as(change)
    return float((change * whole).sum() / whole.square().sum())
