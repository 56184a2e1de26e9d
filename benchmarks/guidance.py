"""`longtake bench guidance`: what each way of guiding does to adherence, drift and motion.

Every case makes the same shots (prompts and seeds) of the demo model, so differences to plain CFG
are paired. Distance to rendered truth stands beside the distance of truth to other truth.

    python -m longtake.benchmarks.guidance --rollouts 4 --seconds 10 --case cfg --plot out.png

is the same with options. The whole suite takes many hours on a CPU.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path

import click
import numpy as np
from rich.console import Console

from ..errors import StorageError
from ..model.preset import DEMO, DEMO_FOLDER
from ..samplers.context_noise import ContextNoise
from ..samplers.guidance import (
    Guidance,
    cfg,
    extended,
    fractional,
    last,
    stabilised,
    temporal,
    vanilla,
)
from ..training.command import reporting
from ..training.estimate import Estimate, estimate
from ..training.kit import Recipe
from ..training.measures import spread
from ._guidance_plot import draw
from ._guided import Features, Measured, guided, kernel_distance, truth
from ._report import setting

RESAMPLES = 200
PLAIN = "cfg"
TEXT = cfg(DEMO.guidance_scale)
NEW_FILE = click.Path(path_type=Path, dir_okay=False)


@dataclass(frozen=True, slots=True)
class Plan:
    """How many shots of which length, by how many processes, of which cases (all: none named)."""

    rollouts: int = 32
    seconds: float = 60.0
    workers: int = 1
    cases: tuple[str, ...] = ()
    folder: Path = DEMO_FOLDER

    @property
    def latent_frames(self) -> int:
        """Whole chunks."""
        chunk = DEMO.chunk_frames
        return max(2, round(self.seconds * DEMO.fps / 4 / chunk)) * chunk


@dataclass(slots=True)
class Findings:
    """Means with 95 % intervals by case and measure, and each rollout's own figures."""

    plan: Plan
    figures: dict[str, dict[str, Estimate]] = field(default_factory=dict)
    against_plain: dict[str, dict[str, Estimate]] = field(default_factory=dict)
    samples: dict[str, list[dict[str, float]]] = field(default_factory=dict)

    def save(self, path: Path) -> None:
        """Write all of it as JSON."""
        content = {"suite": "guidance", **asdict(self), **setting()}
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(content, indent=1, default=str) + "\n", "utf-8")
        except OSError as error:
            raise StorageError(
                f"the results cannot be written to {path} ({error.strerror}); "
                "choose another --json file."
            ) from error


def cases() -> dict[str, Recipe]:
    """Every way of guiding that is compared."""
    found = {"none": Recipe(guidance=Guidance()), PLAIN: Recipe(guidance=TEXT)}

    def add(name: str, guidance: Guidance) -> None:
        found[name] = Recipe(guidance=guidance)

    for scale in (1.2, 1.5, 2.0, 3.0):
        add(f"vanilla {scale:g}", extended(TEXT, vanilla(scale)))
    add("vanilla with text 2", vanilla(2.0, drop_prompt=True))
    add("temporal", extended(TEXT, temporal(0.5, last(4))))
    add("temporal, exact", extended(TEXT, temporal(0.5, last(4, exact=True))))
    for scale, level in ((1.5, 0.6), (1.5, 0.75), (1.5, 0.85), (2.5, 0.75)):
        add(f"fractional {scale:g} at {level:g}", extended(TEXT, fractional(scale, level)))
    for level in (0.02, 0.05, 0.1):
        add(f"stabilised {level:g}", stabilised(TEXT, level))
    for level in (0.05, 0.1, 0.2, 0.3):
        found[f"context noise {level:g}"] = Recipe(guidance=TEXT, noise=ContextNoise(level))
    return found


def main(json_path: Path | None) -> None:
    """Run the whole suite, show it, and write it to `json_path` when there is one."""
    findings = measure(Plan(workers=os.cpu_count() or 1), Console(soft_wrap=True))
    if json_path is not None:
        findings.save(json_path)


def measure(plan: Plan, console: Console) -> Findings:
    """All cases, shown one by one."""
    seeds, findings = range(plan.rollouts), Findings(plan)
    real = partial(truth, latent_frames=plan.latent_frames)
    known = spread(real, range(2 * plan.rollouts), plan.folder, plan.workers)
    reference, other = known[: plan.rollouts], known[plan.rollouts :]
    findings.figures["truth"] = {"distance to truth": distance(other, reference)}
    show(console, "truth", findings.figures["truth"])
    for name, recipe in cases().items():
        if plan.cases and name not in plan.cases:
            continue
        one = partial(guided, recipe=replace(recipe, length=plan.latent_frames))
        made = spread(one, seeds, plan.folder, plan.workers)
        note(findings, name, made, reference)
        show(console, name, findings.figures[name])
    return findings


def note(
    findings: Findings, name: str, made: Sequence[Measured], reference: Sequence[Features]
) -> None:
    """Add a case's figures, and its paired differences to plain CFG."""
    rows = [one.figures for one in made]
    findings.samples[name] = rows
    findings.figures[name] = {key: estimate([row[key] for row in rows]) for key in rows[0]}
    findings.figures[name]["distance to truth"] = distance(
        [one.features for one in made], reference
    )
    plain = findings.samples.get(PLAIN)
    if plain is not None and name != PLAIN:
        findings.against_plain[name] = {
            key: estimate([a[key] - b[key] for a, b in zip(rows, plain, strict=True)])
            for key in rows[0]
        }


def distance(made: Sequence[Features], reference: Sequence[Features]) -> Estimate:
    """Kernel distance of the segments of all rollouts, with an interval over rollouts."""
    whole = kernel_distance(np.concatenate(made), np.concatenate(reference))
    rng = np.random.default_rng(0)
    found = []
    for _ in range(RESAMPLES):
        halves = (
            [of[i] for i in rng.choice(len(of), max(1, len(of) // 2), replace=False)]
            for of in (made, reference)
        )
        found.append(kernel_distance(*(np.concatenate(half) for half in halves)))
    # Half-samples without replacement vary as the whole sample's estimate does.
    low, high = np.percentile(np.array(found) - np.mean(found), [2.5, 97.5])
    return Estimate(whole, whole + float(low), whole + float(high), len(made))


def show(console: Console, name: str, figures: dict[str, Estimate]) -> None:
    """A case's figures, a line each."""
    for key, value in figures.items():
        console.print(f"{name:24} {key:38} {value}  n={value.clips}", highlight=False)


@click.command(help=__doc__)
@click.option("--rollouts", type=click.IntRange(4), default=32, show_default=True)
@click.option("--seconds", type=click.FloatRange(3.5), default=60.0, show_default=True)
@click.option("--workers", type=click.IntRange(1), default=1, show_default=True)
@click.option("--case", "names", multiple=True, type=click.Choice([*cases()]), help="Only these.")
@click.option("--json", "json_path", type=NEW_FILE, help="Write the results to FILE.")
@click.option("--plot", type=NEW_FILE, help="Draw them to FILE (needs matplotlib).")
def command(  # noqa: PLR0913  # one parameter per option
    rollouts: int,
    seconds: float,
    workers: int,
    names: tuple[str, ...],
    json_path: Path | None,
    plot: Path | None,
) -> None:
    """Command line."""
    plan = Plan(rollouts, seconds, workers, names)
    with reporting():
        findings = measure(plan, Console(soft_wrap=True))
        if json_path is not None:
            findings.save(json_path)
        if plot is not None:
            draw(findings, plot)


if __name__ == "__main__":
    command()
