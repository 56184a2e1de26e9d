"""`longtake bench guidance`: the effect of each guidance setting on adherence, drift and motion.

Every case makes the same shots (prompts and seeds) with the demo model, so differences to plain CFG
are paired. The distance to rendered truth is shown beside the distance between two halves of the
truth.

    python -m longtake.benchmarks.guidance --rollouts 4 --seconds 10 --case cfg --plot out.png

runs a smaller version. The whole suite takes many hours on a CPU; with --record and --hours it can
run in parts.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import click
import torch
from rich.console import Console
from torch import Tensor

from ..model.checkpoint import read
from ..model.fingerprint import fingerprint
from ..model.preset import DEMO, DEMO_FOLDER
from ..model.vae.latent_format import SPATIAL_FACTOR
from ..training.command import reporting
from ..training.evaluation.kit import Recipe, load_kit
from ._guidance.cases import cases
from ._guidance.findings import TRUTH, Findings, findings
from ._guidance.plot import draw
from ._shared.measures import OFFSET, Measurement, measure_guided, measure_truth
from ._shared.records import Job, Records
from ._shared.sheet import last_of_parts
from ._shared.sheet import save as save_sheet

NEW_FILE = click.Path(path_type=Path, dir_okay=False)
MORE_ROLLOUTS, MAX_ROLLOUTS = 8, 512


@dataclass(frozen=True, slots=True)
class GuidancePlan:
    """The number, length and width of shots, the worker processes and the cases (empty: all).

    A case whose mean adherence is not known to within `half_width` gets more rollouts, until
    `hours` have passed. `record` is the file of finished rollouts.
    """

    rollouts: int = 32
    seconds: float = 60.0
    width: int = DEMO.width
    half_width: float = 0.02
    hours: float = float("inf")
    workers: int = 1
    cases: tuple[str, ...] = ()
    record: Path | None = None
    folder: Path = DEMO_FOLDER

    @property
    def latent_frames(self) -> int:
        """Length of a shot in whole chunks."""
        chunk = DEMO.chunk_frames
        return max(2, round(self.seconds * DEMO.fps / 4 / chunk)) * chunk

    @property
    def names(self) -> list[str]:
        """Names of the cases, truth first."""
        return [name for name in cases() if not self.cases or name in (*self.cases, TRUTH)]

    def resize(self, recipe: Recipe) -> Recipe:
        """Return `recipe` with the plan's length and width."""
        return replace(recipe, length=self.latent_frames, columns=self.width // SPATIAL_FACTOR)

    @property
    def made_with(self) -> dict[str, object]:
        """Everything that determines a rollout, except its case and seed."""
        weights = (fingerprint(read(file)[0]) for file in sorted(self.folder.glob("*.safetensors")))
        return {"latent_frames": self.latent_frames, "width": self.width, "weights": [*weights]}


def main(json_path: Path | None) -> None:
    """Run the whole suite, show the results, and save them to `json_path` if given."""
    results = measure(GuidancePlan(workers=os.cpu_count() or 1), Console(soft_wrap=True))
    if json_path is not None:
        results.save(json_path)


def measure(plan: GuidancePlan, console: Console) -> Findings:
    """Measure all cases seed by seed, then add rollouts to uncertain cases; show the findings."""
    records, names = Records(plan.record, plan.made_with), plan.names
    until = time.monotonic() + 3600 * plan.hours
    for rollouts in range(plan.rollouts, MAX_ROLLOUTS + 1, MORE_ROLLOUTS):
        jobs = records.missing(names, range(rollouts))
        in_time = records.complete(partial(_measure_job, plan), jobs, plan.workers, until)
        results = findings(plan, records, plan.names)
        names = results.wider_than(plan.half_width)
        if not (in_time and names):
            break
    results.show(console)
    return results


def _measure_job(plan: GuidancePlan, job: Job) -> Measurement:
    name, seed = job
    recipe = plan.resize(cases()[name])
    with torch.inference_mode():
        kit = load_kit(plan.folder)
        return (
            measure_truth(kit, seed, recipe) if name == TRUTH else measure_guided(kit, seed, recipe)
        )


@torch.inference_mode()
def pictures(plan: GuidancePlan, seed: int = 0) -> dict[str, list[Tensor]]:
    """Draw one shot with every guidance setting, a picture of each tenth."""
    kit, recipes = load_kit(plan.folder), cases()
    return {
        name: last_of_parts(kit, seed, plan.resize(recipes[name]), OFFSET)
        for name in plan.names
        if name != TRUTH
    }


@click.command(help=__doc__)
@click.option("--rollouts", type=click.IntRange(2), default=32, show_default=True)
@click.option("--seconds", type=click.FloatRange(3.5), default=60.0, show_default=True)
@click.option("--width", type=click.IntRange(16), default=DEMO.width, show_default=True)
@click.option(
    "--half-width",
    default=0.02,
    show_default=True,
    help="Target half-width of the 95 % interval of mean adherence.",
)
@click.option(
    "--hours", default=float("inf"), help="Start no rollout after this many hours; 0: none."
)
@click.option("--workers", type=click.IntRange(1), default=1, show_default=True)
@click.option("--case", "cases", multiple=True, type=click.Choice([*cases()]), help="Only these.")
@click.option(
    "--record", type=NEW_FILE, help="Keep finished rollouts in FILE and continue from it."
)
@click.option("--json", "json_path", type=NEW_FILE, help="Write the results to FILE.")
@click.option("--plot", type=NEW_FILE, help="Plot the results to FILE (needs matplotlib).")
@click.option("--sheet", type=NEW_FILE, help="Save pictures of a shot of each case to FILE.")
def command(
    json_path: Path | None, plot: Path | None, sheet: Path | None, **options: object
) -> None:
    with reporting():
        plan = GuidancePlan(**options)  # type: ignore[arg-type]
        results = measure(plan, Console(soft_wrap=True))
        if json_path is not None:
            results.save(json_path)
        if plot is not None:
            draw(results, plot)
        if sheet is not None:
            save_sheet(pictures(plan), sheet)


if __name__ == "__main__":
    command()
