"""`longtake bench guidance`: what each way of guiding does to adherence, drift and motion.

Every case makes the same shots (prompts and seeds) of the demo model, so differences to plain CFG
are paired. Distance to rendered truth stands beside the distance of truth to other truth.

    python -m longtake.benchmarks.guidance --rollouts 4 --seconds 10 --case cfg --plot out.png

is the same with options. The whole suite takes many hours on a CPU: with --record and --hours it
can be made in parts.
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
from ..samplers.guidance import (
    Guidance,
    GuidanceTiming,
    Limits,
    cfg,
    extended,
    fractional,
    last,
    stabilised,
    temporal,
    vanilla,
)
from ..samplers.schedule.context_noise import ContextNoise
from ..training.command import reporting
from ..training.evaluation.kit import Recipe, load_kit
from ._guidance.findings import PLAIN, TRUTH, Findings, findings
from ._guidance.plot import draw
from ._shared.measures import OFFSET, Measured, guided, truth
from ._shared.records import Job, Records
from ._shared.sheet import last_of_parts
from ._shared.sheet import save as save_sheet

TEXT = cfg(DEMO.guidance_scale)
NEW_FILE = click.Path(path_type=Path, dir_okay=False)
MORE_ROLLOUTS, MAX_ROLLOUTS = 8, 512
EARLY = 0.7  # steps from this noise level on


@dataclass(frozen=True, slots=True)
class Plan:
    """How many shots of which length and width, by how many processes, of which cases (all: none
    named).

    Of a case whose mean adherence is not known to `half_width` by then, some more are made, and
    again; `hours` ends it before. `record` keeps what was made.
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
        """Whole chunks."""
        chunk = DEMO.chunk_frames
        return max(2, round(self.seconds * DEMO.fps / 4 / chunk)) * chunk

    @property
    def names(self) -> list[str]:
        """The cases, truth first."""
        return [name for name in cases() if not self.cases or name in (*self.cases, TRUTH)]

    def sized(self, recipe: Recipe) -> Recipe:
        """Of the plan's length and width."""
        return replace(recipe, length=self.latent_frames, columns=self.width // SPATIAL_FACTOR)

    @property
    def made_with(self) -> dict[str, object]:
        """What decides a rollout, its case and seed aside."""
        weights = (fingerprint(read(file)[0]) for file in sorted(self.folder.glob("*.safetensors")))
        return {"latent_frames": self.latent_frames, "width": self.width, "weights": [*weights]}


def cases() -> dict[str, Recipe]:
    """Rendered truth, and every way of guiding that is compared.

    A shot without given frames knows no difference between stabilising and context noise.
    """
    found = {TRUTH: Recipe(), "none": Recipe(guidance=Guidance()), PLAIN: Recipe(guidance=TEXT)}

    def add(name: str, guidance: Guidance) -> None:
        found[name] = Recipe(guidance=guidance)

    for scale in (1.2, 1.5, 2.0, 3.0):
        add(f"vanilla {scale:g}", extended(TEXT, vanilla(scale)))
    strong = extended(TEXT, vanilla(2.0))
    add("vanilla 2, rescaled", replace(strong, limits=Limits(rescale=1.0)))
    add(
        "vanilla 2, early steps",
        extended(TEXT, replace(vanilla(2.0), timing=GuidanceTiming((EARLY, 1.0)))),
    )
    for level in (0.02, 0.05, 0.1):
        add(f"vanilla 2, stabilised {level:g}", stabilised(strong, level))
    add("temporal", extended(TEXT, temporal(0.5, last(4))))
    add("temporal and none 2", extended(TEXT, temporal(0.5, last(4), scale=2.0)))
    for scale, level in ((2.0, 0.6), (2.0, 0.75), (2.0, 0.85), (3.0, 0.75)):
        add(f"fractional {scale:g} at {level:g}", extended(TEXT, fractional(scale, level)))
    for level in (0.02, 0.05, 0.1, 0.2, 0.3):
        found[f"context noise {level:g}"] = Recipe(guidance=TEXT, noise=ContextNoise(level))
    more = 2 * DEMO.steps
    found[f"cfg, {more} steps"] = Recipe(guidance=TEXT, steps=more)
    found[f"vanilla 2, {more} steps"] = Recipe(guidance=strong, steps=more)
    return found


def main(json_path: Path | None) -> None:
    """Run the whole suite, show it, and write it to `json_path` when there is one."""
    found = measure(Plan(workers=os.cpu_count() or 1), Console(soft_wrap=True))
    if json_path is not None:
        found.save(json_path)


def measure(plan: Plan, console: Console) -> Findings:
    """All cases of one seed after the other's, then those that are not yet known well enough; shown
    at the end.
    """
    records, names = Records(plan.record, plan.made_with), plan.names
    until = time.monotonic() + 3600 * plan.hours
    for rollouts in range(plan.rollouts, MAX_ROLLOUTS + 1, MORE_ROLLOUTS):
        jobs = records.missing(names, range(rollouts))
        in_time = records.complete(partial(_one, plan), jobs, plan.workers, until)
        found = findings(plan, records, plan.names)
        names = found.wider_than(plan.half_width)
        if not (in_time and names):
            break
    found.show(console)
    return found


def _one(plan: Plan, job: Job) -> Measured:
    name, seed = job
    recipe = plan.sized(cases()[name])
    with torch.inference_mode():
        kit = load_kit(plan.folder)
        return truth(kit, seed, recipe) if name == TRUTH else guided(kit, seed, recipe)


@torch.inference_mode()
def pictures(plan: Plan, seed: int = 0) -> dict[str, list[Tensor]]:
    """One shot in every way of guiding, a picture of each tenth."""
    kit, known = load_kit(plan.folder), cases()
    return {
        name: last_of_parts(kit, seed, plan.sized(known[name]), OFFSET)
        for name in plan.names
        if name != TRUTH
    }


@click.command(help=__doc__)
@click.option("--rollouts", type=click.IntRange(2), default=32, show_default=True)
@click.option("--seconds", type=click.FloatRange(3.5), default=60.0, show_default=True)
@click.option("--width", type=click.IntRange(16), default=DEMO.width, show_default=True)
@click.option("--half-width", default=0.02, show_default=True, help="Of mean adherence, 95 %.")
@click.option("--hours", default=float("inf"), help="Start no rollout after so long; 0: none.")
@click.option("--workers", type=click.IntRange(1), default=1, show_default=True)
@click.option("--case", "cases", multiple=True, type=click.Choice([*cases()]), help="Only these.")
@click.option("--record", type=NEW_FILE, help="Keep rollouts in FILE, and go on from there.")
@click.option("--json", "json_path", type=NEW_FILE, help="Write the results to FILE.")
@click.option("--plot", type=NEW_FILE, help="Draw them to FILE (needs matplotlib).")
@click.option("--sheet", type=NEW_FILE, help="Save pictures of a shot of each case to FILE.")
def command(
    json_path: Path | None, plot: Path | None, sheet: Path | None, **options: object
) -> None:
    """Command line."""
    with reporting():
        plan = Plan(**options)  # type: ignore[arg-type]
        found = measure(plan, Console(soft_wrap=True))
        if json_path is not None:
            found.save(json_path)
        if plot is not None:
            draw(found, plot)
        if sheet is not None:
            save_sheet(pictures(plan), sheet)


if __name__ == "__main__":
    command()
