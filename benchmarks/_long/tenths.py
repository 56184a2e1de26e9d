"""A long rollout measured by tenths during generation: compounding errors show between tenths."""

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
from .._shared.measures import SEGMENT_LATENTS, Features, Measurement, features

OFFSET = 970_000  # of the prompts' seeds, so that no two benches share prompts
PARTS = 10
TRUE_LATENTS = 96  # per clip of rendered truth
FIRST, LAST, CHANGE = "first tenth", "last tenth", "last minus first"
MEASURES = ("right readings", "motion", "error")
DRIFT = f"{MEASURES[2]}, {CHANGE}"


def measure_by_tenths(kit: Kit, seed: int, recipe: Recipe) -> Measurement:
    """Measure a rollout of a seed's random prompt: right readings and motion of each tenth.

    Motion is in 8-bit steps per frame. The features are the mean vector of each tenth's segments
    (10, d). No chunk is kept.
    """
    rng = random.Random(HELD_OUT_SEED + OFFSET + seed)
    values = random_values(rng)
    stats = [_TenthStats() for _ in range(PARTS)]
    decoder, waiting = StreamingDecoder(kit.vae), list[Chunk]()
    for chunk in sample(kit, recipe, [(0, caption(values, rng))], seed):
        part = stats[PARTS * chunk.first_frame // recipe.length]
        part.add(kit, decoder.feed(chunk.latents), values)
        waiting.append(chunk)
        if sum(len(chunk.latents) for chunk in waiting) >= SEGMENT_LATENTS:
            part.vectors.append(features(torch.cat([chunk.latents for chunk in waiting]))[0])
            waiting.clear()
    figures = {f"{MEASURES[0]} {i}": float(np.mean(part.right)) for i, part in enumerate(stats)}
    figures |= {f"{MEASURES[1]} {i}": float(np.mean(part.moved)) for i, part in enumerate(stats)}
    return Measurement(figures, np.stack([np.mean(part.vectors, 0) for part in stats]))


def truth_vectors(kit: Kit, seed: int, recipe: Recipe) -> Measurement:
    """Return the segments (n, d) of a rendered clip of another random prompt."""
    rng = random.Random(HELD_OUT_SEED + 950_000 + seed)
    shot = Shot(((0, random_values(rng)),), rng.randrange(2**31))
    width = recipe.columns * SPATIAL_FACTOR
    latents = encode_shots(kit.vae, [shot], TRUE_LATENTS, width)[0].float()
    return Measurement({}, features(latents))


def error(vectors: Features, truth: Sequence[Features]) -> Features:
    """Return the distance of vectors (n, d) from rendered truth, in truth's standard deviations
    (n,).

    The distance is the root mean square over a vector; truth itself has 1.
    """
    known = np.concatenate(truth)
    far: Features = np.sqrt((((vectors - known.mean(0)) / known.std(0)) ** 2).mean(1))
    return far


def tenths(
    rollouts: Sequence[Measurement], truth: Sequence[Measurement]
) -> dict[str, list[Estimate]]:
    """Estimate every measure of every tenth, over rollouts."""
    known = [clip.features for clip in truth]
    errors = np.stack([error(rollout.features, known) for rollout in rollouts])
    read = {name: np.array([[rollout.figures[f"{name} {i}"] for i in range(PARTS)]
                            for rollout in rollouts])
            for name in MEASURES[:2]}  # fmt: skip
    rows = {**read, MEASURES[2]: errors}
    return {
        name: [estimate(row[:, i].tolist()) for i in range(PARTS)] for name, row in rows.items()
    }


def ends(rollouts: Sequence[Measurement], truth: Sequence[Measurement]) -> dict[str, list[float]]:
    """Return first tenth, last tenth and their difference for each rollout and measure.

    Also return the last tenth's motion over the first's, and the measures of the whole rollout.
    """
    known = [clip.features for clip in truth]
    values = {}
    for name in MEASURES:
        first, last = (
            [float(error(rollout.features, known)[i]) if name == MEASURES[2]
             else rollout.figures[f"{name} {i % PARTS}"] for rollout in rollouts]
            for i in (0, -1)
        )  # fmt: skip
        pairs = list(zip(first, last, strict=True))
        values[f"{name}, {FIRST}"], values[f"{name}, {LAST}"] = first, last
        values[f"{name}, {CHANGE}"] = [b - a for a, b in pairs]
        if name == MEASURES[1]:
            values["motion, last over first"] = [b / max(a, 1e-6) for a, b in pairs]
    whole = [name for name in rollouts[0].figures if not name.startswith(MEASURES)]
    return values | {name: [rollout.figures[name] for rollout in rollouts] for name in whole}


def show(console: Console, name: str, figures: Mapping[str, Estimate]) -> None:
    """Print a case's figures, one per line."""
    for key, value in figures.items():
        console.print(f"{name:44} {key:36} {value}  n={value.clips}", highlight=False)


class _TenthStats:
    """Measurements of one tenth."""

    def __init__(self) -> None:
        self.right, self.moved, self.vectors = list[float](), list[float](), list[Features]()

    def add(self, kit: Kit, frames: Tensor, values: dict[str, str]) -> None:
        """Measure the frames (t, 3, H, W) of a chunk."""
        self.moved.append(255 * float((frames[1:] - frames[:-1]).abs().mean()))
        if len(frames) >= SPAN:
            read = right_readings(kit, frames, [0], values)
            self.right.append(float(np.mean([*read.values()])))
