"""What is measured of one seed on one rung."""

from __future__ import annotations

import random
from dataclasses import replace
from statistics import fmean

import numpy as np

from ...model.preset import DEMO
from ...model.vae.latent_format import frame_count
from ...training.evaluation.kit import Kit, Recipe, decode, sample
from ...training.evaluation.looks import looks
from ...training.evaluation.measures import (
    HELD_OUT_SEED,
    drift,
    recall,
    revisit,
    right_readings,
    switch,
)
from ...training.evaluation.steering import steering
from ...training.world.attributes import caption, random_values
from .._shared.measures import Measurement, measure_rollout

OFFSET = 980_000  # of the prompts' seeds, so that no two benches share prompts
AFTER_SWITCH = slice(1, 4)  # latent frames after a prompt switch: the chunk that it begins
LOOKS_LATENTS = 120
DRIVE_LATENTS = 120
LONG_LATENTS = 2001


def measure_rung(kit: Kit, seed: int, recipe: Recipe) -> Measurement:
    """Make and measure the short shots of a seed."""
    shot = one_prompt(kit, seed, recipe)
    drive = steering(kit, seed, recipe, length=DRIVE_LATENTS)
    own = {"": recipe.cache}
    figures = {
        **shot.figures,
        "after a switch": fmean(switch(kit, seed, recipe)[AFTER_SWITCH]),
        **looks(kit, seed, recipe, length=LOOKS_LATENTS),
        "revisit agreement": revisit(kit, seed, recipe, memories=own)[""],
        "recall": recall(kit, seed, recipe, memories=own)[""],
        "live camera": drive["correlation"],
        "live camera, speed off": abs(drive["slope"] - 1),
    }
    return Measurement(figures, shot.features)


def measure_long(kit: Kit, seed: int, recipe: Recipe) -> Measurement:
    """Make a long shot and measure how it differs late from early."""
    late = drift(kit, seed, replace(recipe, length=LONG_LATENTS))
    figures = {
        "right, early less late": late["right early"] - late["right late"],
        "change of spread": abs(late["std late"] - late["std early"]),
    }
    return Measurement(figures, np.zeros((0, 0)))


def one_prompt(kit: Kit, seed: int, recipe: Recipe) -> Measurement:
    """The figures of a shot of one prompt, and its segments for the distance to truth."""
    rng = random.Random(HELD_OUT_SEED + OFFSET + seed)
    values = random_values(rng)
    chunks = [*sample(kit, recipe, [(0, caption(values, rng))], seed)]
    measured = measure_rollout(kit, chunks, values)
    opening = decode(kit, chunks[:2])[: frame_count(DEMO.chunk_frames)]
    first = right_readings(kit, opening, [0], values)
    names = ("adherence", "motion", "sharpness", "seam", "evaluations")
    figures = {name: measured.figures[name] for name in names}
    figures["right in the first chunk"] = fmean(flags[0] for flags in first.values())
    return Measurement(figures, measured.features)
