"""`longtake bench endurance`: is the last tenth of a rollout as good as the first?

Rollouts of 10,000 latent frames (42 minutes of video) of the demo model, with its own settings and
with naive settings. Each tenth is measured: right readings, motion, and distance to the rendered
truth. The claims are judged from four rollouts on.

    python -m longtake.benchmarks.endurance --rollouts 1 --latents 1000 --record long.jsonl

runs a smaller version. The whole suite takes hours on a CPU; with --record it can run in parts.
"""

from __future__ import annotations

import os
from dataclasses import replace
from functools import partial
from pathlib import Path

import click
import torch
from rich.console import Console

from ..model.checkpoint import read
from ..model.fingerprint import fingerprint
from ..model.preset import DEMO
from ..model.vae.latent_format import SPATIAL_FACTOR
from ..samplers.guidance import Guidance, cfg, extend, vanilla
from ..training.command import reporting
from ..training.evaluation.kit import GUIDED_SCALE, Recipe, load_kit
from ._long.rollouts import MIN_LATENTS, TRUTH, LongPlan, LongResults, run
from ._long.tenths import measure_by_tenths, truth_vectors
from ._long.tenths_plot import draw
from ._shared.measures import Measurement
from ._shared.records import Job

RECOMMENDED = "as the demo is set"
CASES = {
    RECOMMENDED: Recipe(),
    "one step, no guidance": Recipe(steps=1, guidance=Guidance()),
    "strong history guidance": Recipe(guidance=extend(cfg(GUIDED_SCALE), vanilla(3.0))),
}
NEW_FILE = click.Path(path_type=Path, dir_okay=False)


def main(json_path: Path | None) -> None:
    """Run the whole suite, show the results, and save them to `json_path` if given."""
    results = measure(LongPlan(32, 10_000, workers=os.cpu_count() or 1))
    results.show(Console(soft_wrap=True))
    if json_path is not None:
        results.save(json_path)


def measure(plan: LongPlan) -> LongResults:
    """Measure all cases, and judge whether quality lasts with the demo's own settings."""
    weights = [fingerprint(read(file)[0]) for file in sorted(plan.folder.glob("*.safetensors"))]
    made_with = {"latent_frames": plan.length, "width": plan.width, "weights": weights}
    results = run("endurance", plan, [*CASES], partial(_measure_job, plan), made_with)
    if RECOMMENDED in results.ends:
        own = results.ends[RECOMMENDED]
        change, motion = own["right readings, last minus first"], own["motion, last over first"]
        results.claim("right readings fall by no more than 5 points", change, -0.05)
        results.claim("motion stays at 90 % or more", motion, 0.9)
    return results


def _measure_job(plan: LongPlan, job: Job) -> Measurement:
    name, seed = job
    recipe = CASES.get(name, Recipe())
    recipe = replace(recipe, length=plan.length, columns=plan.width // SPATIAL_FACTOR)
    with torch.inference_mode():
        kit = load_kit(plan.folder)
        return (truth_vectors if name == TRUTH else measure_by_tenths)(kit, seed, recipe)


@click.command(help=__doc__)
@click.option("--rollouts", type=click.IntRange(1), default=32, show_default=True)
@click.option("--latents", type=click.IntRange(MIN_LATENTS), default=10_000, show_default=True)
@click.option("--width", type=click.IntRange(16), default=DEMO.width, show_default=True)
@click.option("--workers", type=click.IntRange(1), default=1, show_default=True)
@click.option(
    "--hours", default=float("inf"), help="Start no rollout after this many hours; 0: none."
)
@click.option("--case", "cases", multiple=True, type=click.Choice([*CASES]), help="Only these.")
@click.option(
    "--record", type=NEW_FILE, help="Keep finished rollouts in FILE and continue from it."
)
@click.option("--json", "json_path", type=NEW_FILE, help="Write the results to FILE.")
@click.option("--plot", type=NEW_FILE, help="Plot the results to FILE (needs matplotlib).")
def command(json_path: Path | None, plot: Path | None, **options: object) -> None:
    with reporting():
        results = measure(LongPlan(**options))  # type: ignore[arg-type]
        results.show(Console(soft_wrap=True))
        if json_path is not None:
            results.save(json_path)
        if plot is not None and results.tenths:
            draw(results, plot)


if __name__ == "__main__":
    command()
