"""A long rollout measured by tenths, as it is made: what compounds shows from one to the next."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from rich.console import Console
from torch import Tensor

from ...model.vae.latent_format import SPATIAL_FACTOR
from ...model.vae.streaming import StreamingDecoder
from ...samplers.loop import Chunk
from ...training.evaluation.estimate import Estimate, estimate
from ...training.evaluation.kit import Kit, Recipe, sample
from ...training.evaluation.measures import HELD_OUT_SEED, right_readings
from ...training.evaluation.oracle import SPAN
from ...training.world.attributes import caption, random_values
from ...training.world.dataset import encode_shots
from ...training.world.scene import Shot
from .._shared.measures import SEGMENT_LATENTS, Features, Measured, features

OFFSET = 970_000  # of prompts, so that no bench has those of another
PARTS = 10
TRUE_LATENTS = 96  # of each clip of rendered truth
FIRST, LAST, CHANGE = "first tenth", "last tenth", "last minus first"
MEASURES = ("right readings", "motion", "error")
DRIFT = f"{MEASURES[2]}, {CHANGE}"


def by_tenths(kit: Kit, seed: int, recipe: Recipe) -> Measured:
    """Right readings and motion (8-bit steps a frame) of each tenth of a rollout of a seed's
    random prompt, and the mean vector of its segments (10, d); nothing else is kept of a chunk.
    """
    rng = random.Random(HELD_OUT_SEED + OFFSET + seed)
    values = random_values(rng)
    found = [_Part() for _ in range(PARTS)]
    decoder, waiting = StreamingDecoder(kit.vae), list[Chunk]()
    for chunk in sample(kit, recipe, [(0, caption(values, rng))], seed):
        part = found[PARTS * chunk.first_frame // recipe.length]
        part.see(kit, decoder.feed(chunk.latents), values)
        waiting.append(chunk)
        if sum(len(one.latents) for one in waiting) >= SEGMENT_LATENTS:
            part.vectors.append(features(torch.cat([one.latents for one in waiting]))[0])
            waiting.clear()
    figures = {f"{MEASURES[0]} {i}": float(np.mean(part.right)) for i, part in enumerate(found)}
    figures |= {f"{MEASURES[1]} {i}": float(np.mean(part.moved)) for i, part in enumerate(found)}
    return Measured(figures, np.stack([np.mean(part.vectors, 0) for part in found]))


def true_vectors(kit: Kit, seed: int, recipe: Recipe) -> Measured:
    """The segments (n, d) of a rendered clip of another random prompt."""
    rng = random.Random(HELD_OUT_SEED + 950_000 + seed)
    shot = Shot(((0, random_values(rng)),), rng.randrange(2**31))
    width = recipe.columns * SPATIAL_FACTOR
    latents = encode_shots(kit.vae, [shot], TRUE_LATENTS, width)[0].float()
    return Measured({}, features(latents))


def error(vectors: Features, truth: Sequence[Features]) -> Features:
    """How far vectors (n, d) are from rendered truth, in its own standard deviations (n,): the root
    mean square over a vector, 1 for truth itself.
    """
    known = np.concatenate(truth)
    far: Features = np.sqrt((((vectors - known.mean(0)) / known.std(0)) ** 2).mean(1))
    return far


def tenths(made: Sequence[Measured], truth: Sequence[Measured]) -> dict[str, list[Estimate]]:
    """Every measure of every tenth, over rollouts."""
    known = [one.features for one in truth]
    errors = np.stack([error(one.features, known) for one in made])
    read = {name: np.array([[one.figures[f"{name} {i}"] for i in range(PARTS)] for one in made])
            for name in MEASURES[:2]}  # fmt: skip
    rows = {**read, MEASURES[2]: errors}
    return {
        name: [estimate(row[:, i].tolist()) for i in range(PARTS)] for name, row in rows.items()
    }


def ends(made: Sequence[Measured], truth: Sequence[Measured]) -> dict[str, list[float]]:
    """Of each rollout: first tenth, last tenth, and their difference, of every measure; the last
    tenth's motion over the first's; and what was measured of the rollout as a whole.
    """
    known = [one.features for one in truth]
    found = {}
    for name in MEASURES:
        first, last = (
            [float(error(one.features, known)[i]) if name == MEASURES[2]
             else one.figures[f"{name} {i % PARTS}"] for one in made]
            for i in (0, -1)
        )  # fmt: skip
        pairs = list(zip(first, last, strict=True))
        found[f"{name}, {FIRST}"], found[f"{name}, {LAST}"] = first, last
        found[f"{name}, {CHANGE}"] = [b - a for a, b in pairs]
        if name == MEASURES[1]:
            found["motion, last over first"] = [b / max(a, 1e-6) for a, b in pairs]
    whole = [name for name in made[0].figures if not name.startswith(MEASURES)]
    return found | {name: [one.figures[name] for one in made] for name in whole}


def show(console: Console, name: str, figures: Mapping[str, Estimate]) -> None:
    """A case's figures, a line each."""
    for key, value in figures.items():
        console.print(f"{name:44} {key:36} {value}  n={value.clips}", highlight=False)


class _Part:
    """What has been seen of one tenth."""

    def __init__(self) -> None:
        self.right, self.moved, self.vectors = list[float](), list[float](), list[Features]()

    def see(self, kit: Kit, frames: Tensor, values: dict[str, str]) -> None:
        """The frames (t, 3, H, W) of a chunk."""
        self.moved.append(255 * float((frames[1:] - frames[:-1]).abs().mean()))
        if len(frames) >= SPAN:
            read = right_readings(kit, frames, [0], values)
            self.right.append(float(np.mean([*read.values()])))
