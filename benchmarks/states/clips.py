"""What is measured of one seed with one memory."""

from __future__ import annotations

import torch

from ...training.evaluation.kit import Kit, Recipe
from ...training.evaluation.looks import looks
from ...training.evaluation.returns import Memory, entering_figures, half_way
from .._shared.measures import Measurement, measure_guided

AWAY = (16, 48, 128)
LOOKS_LATENTS = 72
QUALITY = ("adherence", "motion", "sharpness", "seam")


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
    memories = {"recall": Memory(recipe.cache)}
    figures = entering_figures(kit, seed, turn=half_way(away), memories=memories, recipe=recipe)
    return {f"{name} after {away}": figure for name, figure in figures.items()}
