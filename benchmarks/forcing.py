"""`longtake bench forcing`: is it Diffusion Forcing that stops errors from compounding?

Three models of one training budget, the twins, differ only in the noise levels of their training.
Each makes the same rollouts of 1,000 latent frames in 1, 2 and 4 steps, with clean and with noisy
context. The suite also measures how much of an error in a true past each model continues.
Differences are taken within pairs of rollouts: each twin against Diffusion Forcing, and noisy
context against clean. The first run trains the models, half an hour of a CPU core each. The same
command resumes wherever it was stopped:

    python -m longtake.benchmarks.forcing --train --rollouts 8 --record forcing.jsonl

`longtake bench forcing` reads the folder `twins` in the working directory. A rollout has the width
and the longest history of that training.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from itertools import product
from pathlib import Path

import click
import torch
from rich.console import Console
from torch import Tensor

from ..attention.cache.policy import WindowSink
from ..model.checkpoint import read
from ..model.fingerprint import fingerprint
from ..model.preset import DEMO
from ..model.vae.latent_format import SPATIAL_FACTOR
from ..samplers.schedule.context_noise import ContextNoise
from ..training.batches import TASKS
from ..training.command import keep_freed_memory, reporting
from ..training.evaluation.kit import Recipe, load_kit, with_networks
from ._guidance.feedback import (
    COLOUR_KEPT,
    CONTRAST_KEPT,
    HISTORY,
    errors_kept,
    next_chunk,
    true_start,
)
from ._long.ablation_models import train_twins, twins_in
from ._long.rollouts import MIN_LATENTS, TRUTH, LongPlan, LongResults, run
from ._long.tenths import DRIFT, OFFSET, measure_by_tenths, truth_vectors
from ._long.tenths_plot import draw
from ._shared.measures import Measurement
from ._shared.records import Job
from ._shared.sheet import last_of_parts
from ._shared.sheet import save as save_sheet

STEPS, CONTEXT_NOISE = (1, 2, 4), (0.0, 0.1)
WINDOW = max(TASKS["narrow"].windows) - DEMO.chunk_frames  # training counts the active chunk too
WIDTH = TASKS["narrow"].pool.width
TWINS, PLAIN = Path("twins"), "diffusion-forcing"
PAIRED = (DRIFT, COLOUR_KEPT, CONTRAST_KEPT)
NEW_FILE = click.Path(path_type=Path, dir_okay=False)

Case = tuple[str, int, float]
"""A twin's name, its steps, and the noise level of its context."""


def main(json_path: Path | None) -> None:
    """Run the whole suite, show the results, and save them to `json_path` if given."""
    results = measure(LongPlan(32, 1000, WIDTH, workers=os.cpu_count() or 1), TWINS)
    results.show(Console(soft_wrap=True))
    if json_path is not None:
        results.save(json_path)


def measure(plan: LongPlan, folder: Path) -> LongResults:
    """Measure every twin in every case."""
    twins = twins_in(folder)
    files = {name: fingerprint(read(path / "dit.safetensors")[0]) for name, path in twins.items()}
    made_with = {
        "latent_frames": plan.length, "width": plan.width, "window": WINDOW, "twins": files,
    }  # fmt: skip
    known = cases(twins)
    results = run("forcing", plan, [*known], partial(_measure_job, plan, folder), made_with)
    for case, less in pairs(known):
        results.pair(case, less, PAIRED)
    return results


def cases(twins: Mapping[str, Path]) -> dict[str, Case]:
    """Return all cases by name."""
    return {
        f"{twin}, {steps} steps, context noise {noise:g}": (twin, steps, noise)
        for twin, steps, noise in product(twins, STEPS, CONTEXT_NOISE)
    }


def pairs(known: Mapping[str, Case]) -> list[tuple[str, str]]:
    """Return the pairs of cases that are compared rollout by rollout.

    Each twin is paired with Diffusion Forcing, and each twin with noisy context with the same twin
    with clean context.
    """
    names = {case: name for name, case in known.items()}
    comparisons = []
    for name, (twin, steps, noise) in known.items():
        if twin != PLAIN:
            comparisons.append((name, names[PLAIN, steps, noise]))
        if noise and (twin, steps, 0.0) in names:
            comparisons.append((name, names[twin, steps, 0.0]))
    return comparisons


def _measure_job(plan: LongPlan, folder: Path, job: Job) -> Measurement:
    name, seed = job
    with torch.inference_mode():
        kit = load_kit(plan.folder)
        if name == TRUTH:
            return truth_vectors(kit, seed, _recipe(plan, 1, 0))
        twins = twins_in(folder)
        twin, steps, noise = cases(twins)[name]
        recipe = _recipe(plan, steps, noise)
        kit = with_networks(kit, twins[twin])
        measurement = measure_by_tenths(kit, seed, recipe)
        start = true_start(kit, seed, recipe.columns)
        short = replace(recipe, length=HISTORY + DEMO.chunk_frames)
        errors = errors_kept(partial(next_chunk, kit, short, start), start)
        return replace(measurement, figures=measurement.figures | errors)


def _recipe(plan: LongPlan, steps: int, noise: float) -> Recipe:
    return Recipe(
        length=plan.length, columns=plan.width // SPATIAL_FACTOR, steps=steps,
        cache=WindowSink(WINDOW), noise=ContextNoise(noise),
    )  # fmt: skip


@torch.inference_mode()
def pictures(plan: LongPlan, folder: Path, seed: int = 0) -> dict[str, list[Tensor]]:
    """Draw one rollout of every twin in the most steps, a picture of each tenth."""
    kit, twins = load_kit(plan.folder), twins_in(folder)
    shown = {name: case for name, case in cases(twins).items() if case[1] == max(STEPS)}
    return {
        name: last_of_parts(
            with_networks(kit, twins[twin]), seed, _recipe(plan, steps, noise), OFFSET
        )
        for name, (twin, steps, noise) in shown.items()
    }


@click.command(help=__doc__)
@click.option("--twins", type=click.Path(path_type=Path), default=TWINS, show_default=True)
@click.option("--train", is_flag=True, help="First train all missing twins.")
@click.option("--rollouts", type=click.IntRange(1), default=32, show_default=True)
@click.option("--latents", type=click.IntRange(MIN_LATENTS), default=1000, show_default=True)
@click.option("--width", type=click.IntRange(16), default=WIDTH, show_default=True)
@click.option("--workers", type=click.IntRange(1), default=1, show_default=True)
@click.option(
    "--hours", default=float("inf"), help="Start no rollout after this many hours; 0: none."
)
@click.option(
    "--record", type=NEW_FILE, help="Keep finished rollouts in FILE and continue from it."
)
@click.option("--json", "json_path", type=NEW_FILE, help="Write the results to FILE.")
@click.option("--plot", type=NEW_FILE, help="Plot the results to FILE (needs matplotlib).")
@click.option("--sheet", type=NEW_FILE, help="Save pictures of a rollout of each twin to FILE.")
def command(
    twins: Path,
    train: bool,
    json_path: Path | None,
    plot: Path | None,
    sheet: Path | None,
    **options: object,
) -> None:
    with reporting():
        plan = LongPlan(**options)  # type: ignore[arg-type]
        if train:
            train_twins(twins)
        results = measure(plan, twins)
        results.show(Console(soft_wrap=True))
        if json_path is not None:
            results.save(json_path)
        if plot is not None and results.tenths:
            draw(results, plot)
        if sheet is not None:
            save_sheet(pictures(plan, twins), sheet)


if __name__ == "__main__":
    keep_freed_memory()  # makes training three times as fast
    command()
