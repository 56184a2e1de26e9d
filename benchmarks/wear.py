"""`longtake bench wear`: which memory rules keep a long shot from wearing out?

Each rule alone makes the same shots as the default (prompts and seeds), in four situations: the
demo as shipped, its teacher-forced twin, strong guidance, and a short window whose camera turns far
away. A rule that needs a sink or a longer window is compared with that alone, too. The measures are
right readings, drift of colour and contrast against rendered truth, motion, missing and doubled
balls, the seam between chunks, and agreement of scenery that returns. A rule is better or worse
where the whole 95 % interval of its difference is.

    python -m longtake.benchmarks.wear --case "strong guidance" --rule recency --record wear
    python -m longtake.benchmarks.wear --together recency --together "anchor 0.3" --record wear

run parts of the suite; the same records continue, a file for each situation. The whole suite takes
many hours on a CPU. The twin is not shipped: the bench reads the folder `twins`, and without it
omits this situation. Half an hour of a core trains the twin:

    python -m longtake.benchmarks.wear --train
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from pathlib import Path

import click
import numpy as np
import torch
from rich.console import Console

from ..errors import BadInput
from ..model.checkpoint import read
from ..model.fingerprint import fingerprint
from ..model.preset import DEMO, DEMO_FOLDER
from ..training.command import keep_freed_memory, reporting
from ..training.evaluation.kit import Kit, load_kit, with_networks
from ._long.ablation_models import is_trained, train_twin
from ._shared.measures import Measurement
from ._shared.records import Job, Records
from ._wear.cases import DEFAULT, RULES, SHIPPED, SITUATIONS, TWIN, RuleCase, rules_of
from ._wear.plot import draw
from ._wear.results import WearResults
from ._wear.rollout import measure_wear

RECIPE = "teacher-forcing"
MIN_LATENTS = 30  # a tenth is a chunk
FOLDER = click.Path(path_type=Path, file_okay=False)
NEW_FILE = click.Path(path_type=Path, dir_okay=False)


@dataclass(frozen=True, slots=True)
class WearPlan:
    """Situations and rules (empty: all), and the rules that make one more case `together`.

    `rollouts` and `latents` replace each situation's own. No rollout starts after `hours`. `record`
    is a folder with finished rollouts, a file for each situation; `twins` has the twins.
    """

    rollouts: int | None = None
    latents: int | None = None
    situations: tuple[str, ...] = ()
    rules: tuple[str, ...] = ()
    together: tuple[str, ...] = ()
    workers: int = 1
    hours: float = float("inf")
    record: Path | None = None
    twins: Path = Path("twins")

    def __post_init__(self) -> None:
        if self.latents is not None and self.latents < MIN_LATENTS:
            raise BadInput(
                f"a rollout needs at least {MIN_LATENTS} latent frames; got {self.latents}."
            )

    @property
    def twin(self) -> Path:
        """The folder of the teacher-forced twin."""
        return self.twins / RECIPE

    def length(self, situation: str) -> int:
        """Length of a rollout in whole chunks, rounded down."""
        latents = self.latents or SITUATIONS[situation].latents
        return latents // DEMO.chunk_frames * DEMO.chunk_frames

    def seeds(self, situation: str) -> range:
        return range(self.rollouts or SITUATIONS[situation].rollouts)

    def cases(self, situation: str) -> dict[str, RuleCase]:
        """Return the rules by case name, each after the cases that it is compared with."""
        known = rules_of(SITUATIONS[situation], self.together)
        names = set(known) & {*(self.rules or RULES), DEFAULT} | set(known) - set(RULES)
        names |= {known[name].control for name in names}
        return {f"{situation}: {name}": rule for name, rule in known.items() if name in names}

    def made_with(self, situation: str) -> dict[str, object]:
        """Everything that determines a situation's rollouts, except their rule and seed."""
        files = [*sorted(DEMO_FOLDER.glob("*.safetensors"))]
        files += sorted(self.twin.glob("*.safetensors")) if situation == TWIN else []
        weights = [fingerprint(read(file)[0]) for file in files]
        length = self.length(situation)
        return {
            "suite": "wear",
            "situation": situation,
            "latent_frames": length,
            "weights": weights,
        }

    def records(self, situation: str) -> Records:
        """Open the situation's record, so that no other situation's weights count in it."""
        path = self.record and self.record / f"{situation.replace(',', '').replace(' ', '-')}.jsonl"
        return Records(path, self.made_with(situation))


def main(json_path: Path | None) -> None:
    """Run the whole suite, show the results, and save them to `json_path` if given."""
    results = measure(WearPlan(workers=os.cpu_count() or 1))
    results.show(Console(soft_wrap=True))
    if json_path is not None:
        results.save(json_path)


def measure(plan: WearPlan) -> WearResults:
    """Measure every case seed by seed; compare each with the default and with its control."""
    results, until = WearResults(plan), time.monotonic() + 3600 * plan.hours
    situations = [*(plan.situations or SITUATIONS)]
    if TWIN in situations and not is_trained(plan.twin):
        situations.remove(TWIN)
        results.omitted[TWIN] = (
            f"not measured, because {plan.twin} has no trained weights; `python -m "
            f"longtake.benchmarks.wear --train --twins {plan.twins}` trains them."
        )
    for name in situations:
        records = plan.records(name)
        jobs = records.missing([*plan.cases(name)], plan.seeds(name))
        records.complete(partial(measure_job, plan), jobs, plan.workers, until)
        results.made_with[name] = records.made_with
        summarise(results, records, plan, name)
    return results


def summarise(results: WearResults, records: Records, plan: WearPlan, situation: str) -> None:
    """Add a situation's figures, differences and claims."""
    default = f"{situation}: {DEFAULT}"
    for case, rule in plan.cases(situation).items():
        by_seed = records.of(case)
        results.add(case, {s: by_seed[s] for s in plan.seeds(situation) if s in by_seed})
        control = f"{situation}: {rule.control}"
        if control != default:
            results.compare(case, control)
        difference = results.compare(case, default) if case != default else None
        if difference is not None and situation == SHIPPED:
            results.claim_no_harm(difference)
        elif difference is not None and situation == TWIN:
            results.claim_half_drift(case, default)


def measure_job(plan: WearPlan, job: Job) -> Measurement:
    """Make and measure one rollout."""
    case, seed = job
    name, _ = case.split(": ")
    situation = SITUATIONS[name]
    recipe = replace(plan.cases(name)[case].apply(situation.recipe), length=plan.length(name))
    with torch.inference_mode():
        kit = _kit(plan, name)
        return Measurement(measure_wear(kit, seed, recipe, situation.turn_every), np.zeros((0, 0)))


@lru_cache(maxsize=1)
def _kit(plan: WearPlan, situation: str) -> Kit:
    kit = load_kit(DEMO_FOLDER)
    return with_networks(kit, plan.twin) if situation == TWIN else kit


@click.command(help=__doc__)
@click.option("--case", "situations", multiple=True, type=click.Choice([*SITUATIONS]))
@click.option(
    "--rule",
    "rules",
    multiple=True,
    type=click.Choice(RULES),
    help="Only these and their controls.",
)
@click.option(
    "--together", multiple=True, type=click.Choice(RULES), help="These rules as one more case."
)
@click.option("--rollouts", type=click.IntRange(1), help="Instead of 4 (shipped model) and 8.")
@click.option("--latents", type=click.IntRange(MIN_LATENTS), help="Instead of 2,001 and 240.")
@click.option("--workers", type=click.IntRange(1), default=1, show_default=True)
@click.option(
    "--hours", default=float("inf"), help="Start no rollout after this many hours; 0: none."
)
@click.option("--twins", type=FOLDER, default=Path("twins"), show_default=True)
@click.option("--train", is_flag=True, help="Only train the twin; a stopped training resumes.")
@click.option(
    "--record", type=FOLDER, help="Keep finished rollouts in FOLDER and continue from there."
)
@click.option("--json", "json_path", type=NEW_FILE, help="Write the results to FILE.")
@click.option("--plot", type=NEW_FILE, help="Plot the results to FILE (needs matplotlib).")
def command(train: bool, json_path: Path | None, plot: Path | None, **options: object) -> None:
    with reporting():
        plan = WearPlan(**options)  # type: ignore[arg-type]
        if train:
            train_twin(plan.twins, RECIPE)
            return
        results = measure(plan)
        results.show(Console(soft_wrap=True))
        if json_path is not None:
            results.save(json_path)
        if plot is not None and results.differences:
            draw(results, plot)


if __name__ == "__main__":
    keep_freed_memory()  # makes training three times as fast
    command()
