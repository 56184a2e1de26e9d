"""What is measured of one seed with one memory."""

from __future__ import annotations

from dataclasses import replace

import torch

from ...training.evaluation.kit import Kit, Recipe, decode, sample
from ...training.evaluation.looks import looks
from ...training.evaluation.measures import as_chunks, entering_agreement
from .._attention.recall import half_way, there_and_back
from .._shared.measures import Measurement, measure_guided

AWAY = (16, 48, 128)
LOOKS_LATENTS = 72
QUALITY = ("adherence", "motion", "sharpness", "seam")
TRUTH = "decoded truth"


@torch.inference_mode()
def measure_clip(kit: Kit, seed: int, recipe: Recipe) -> Measurement:
    """Make and measure the shots of a seed."""
    shot = measure_guided(kit, seed, recipe)
    figures = {name: shot.figures[name] for name in QUALITY}
    figures |= looks(kit, seed, recipe, length=LOOKS_LATENTS)
    for away in AWAY:
        figures |= returning(kit, seed, recipe, away)
    return Measurement(figures, shot.features)


def returning(kit: Kit, seed: int, recipe: Recipe, away: int) -> dict[str, float]:
    """Agreement of what enters after so many latent frames `away`, and that of decoded truth."""
    clip = there_and_back(kit, half_way(away), seed)
    chunks, prompts = as_chunks(clip.latents), [(0, clip.away), (clip.turn, clip.back)]
    entering = [*sample(kit, replace(recipe, length=len(clip.latents)), prompts, seed, chunks[:-1])]
    before = chunks[-3:-1]
    return {
        f"recall after {away}": entering_agreement(
            decode(kit, [*before, *entering])[-1], clip.truth
        ),
        f"{TRUTH} after {away}": entering_agreement(decode(kit, chunks[-3:])[-1], clip.truth),
    }
