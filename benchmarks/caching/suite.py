"""Makes the shots of the caching bench and compares them with their references."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean

import torch

from ...model.preset import DEMO_FOLDER
from ...samplers.feature_caching import Evaluations, FeatureCaching
from ...training.evaluation.kit import Kit, Recipe, decode, load_kit, sample
from ...training.evaluation.measures import HELD_OUT_SEED, right_readings
from ...training.evaluation.psnr import psnr
from ...training.world.attributes import caption, random_values
from .._shared.demo import demo_weights
from .._shared.paired import median_interval
from .._shared.report import Results

OFFSET = 970_000  # of the prompts' seeds, so that no two benches share prompts
EVERY = 8  # frames between readings
THRESHOLDS = (0.05, 0.1, 0.15, 0.2, 0.3)
FEWER: Mapping[int, Sequence[int]] = {20: (16, 12, 9, 7, 5), 50: (40, 28, 18, 12, 8, 6)}
"""The step counts of references, and those of the plain shots beside them."""
SHARE, TIME, LIKENESS, RIGHT = "evaluations", "time", "dB", "right readings"

Row = dict[str, float]
"""The figures of one shot, of which all but right readings are against its reference."""


@dataclass(frozen=True, slots=True)
class CachingPlan:
    """Step counts of the references, shots of each case, and latent frames of a shot."""

    steps: tuple[int, ...] = tuple(FEWER)
    shots: int = 6
    latents: int = 12


@dataclass(frozen=True, slots=True)
class Shot:
    """A finished shot's pictures (t, 3, H, W), what they cost, and how well they read."""

    frames: torch.Tensor
    evaluations: int
    seconds: float
    right: float

    def against(self, reference: Shot) -> Row:
        """The figures of this shot beside its reference."""
        return {
            SHARE: self.evaluations / reference.evaluations,
            TIME: self.seconds / reference.seconds,
            LIKENESS: psnr(self.frames, reference.frames),
            RIGHT: self.right,
        }


def main(json_path: Path | None) -> None:
    """Run the suite, show the results, and save them to `json_path` if given."""
    measure(CachingPlan()).publish(json_path)


def measure(plan: CachingPlan) -> Results:
    """Measure every case, shot by shot on one thread."""
    results = Results("caching", notes={"demo": ", ".join(demo_weights())})
    kit, threads = load_kit(DEMO_FOLDER), torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        for steps in plan.steps:
            rows = [measure_seed(kit, seed, steps, plan.latents) for seed in range(plan.shots)]
            add_figures(results, steps, rows)
            add_gains(results, steps, rows)
    finally:
        torch.set_num_threads(threads)
    return results


def cases_of(steps: int) -> dict[str, Recipe]:
    """Cached shots by threshold, then plain shots of fewer steps."""
    full = Recipe(steps=steps)
    cached = {
        f"cached {threshold:g}": replace(full, feature_caching=FeatureCaching(threshold))
        for threshold in THRESHOLDS
    }
    return cached | {f"{fewer} steps": replace(full, steps=fewer) for fewer in FEWER[steps]}


def measure_seed(kit: Kit, seed: int, steps: int, latents: int) -> dict[str, Row]:
    """The figures of every case of one seed, after those of the reference itself."""
    reference = make(kit, seed, Recipe(steps=steps, length=latents))
    rows = {"all steps": {RIGHT: reference.right}}
    for name, recipe in cases_of(steps).items():
        rows[name] = make(kit, seed, replace(recipe, length=latents)).against(reference)
    return rows


def make(kit: Kit, seed: int, recipe: Recipe) -> Shot:
    """Make and read one shot."""
    rng = random.Random(HELD_OUT_SEED + OFFSET + seed)
    values = random_values(rng)
    with torch.inference_mode():
        chunks = [*sample(kit, recipe, [(0, caption(values, rng))], seed)]
        frames = decode(kit, chunks)
        read = right_readings(kit, frames, range(0, len(frames) - EVERY, EVERY), values)
    computed = sum((chunk.evaluations for chunk in chunks), Evaluations()).computed
    right = fmean(fmean(flags) for flags in read.values())
    return Shot(frames, computed, sum(chunk.seconds for chunk in chunks), right)


def add_figures(results: Results, steps: int, rows: Sequence[Mapping[str, Row]]) -> None:
    """Add every case's figures over all shots."""
    for name, first in rows[0].items():
        for figure in first:
            of_shots = [row[name][figure] for row in rows]
            results.figures[f"{steps} steps: {name}, {figure}"] = median_interval(of_shots)


def add_gains(results: Results, steps: int, rows: Sequence[Mapping[str, Row]]) -> None:
    """Add how much nearer caching is to the reference than fewer steps that cost no less."""
    plain = [f"{fewer} steps" for fewer in FEWER[steps]]
    for threshold in THRESHOLDS:
        name = f"cached {threshold:g}"
        cost = max(row[name][SHARE] for row in rows)
        beside = [other for other in plain if min(row[other][SHARE] for row in rows) >= cost]
        if not beside:
            continue
        cheapest = min(beside, key=lambda other: rows[0][other][SHARE])
        gains = [row[name][LIKENESS] - row[cheapest][LIKENESS] for row in rows]
        text = f"{steps} steps: {name} over {cheapest}, dB"
        results.figures[text] = median_interval(gains)
        results.at_least(f"{text}: nearer to all steps", results.figures[text].low, 0.0)
