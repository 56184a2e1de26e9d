"""Measures the rungs shot by shot, and times them in turn."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path

import torch

from ...model.arithmetic.layers import Layers
from ...model.arithmetic.packed import PackedWeights
from ...model.preset import DEMO
from ...training.evaluation.kit import Kit, Recipe, decode, sample
from ...training.world.attributes import caption, random_values
from .._shared.demo import demo_weights
from .._shared.measures import Measurement, measure_truth
from .._shared.paired import Prepare, paired_seconds, ratio_interval
from .._shared.records import FOREVER, Job, Records
from .._shared.report import publish
from .results import LadderResults
from .rungs import REFERENCE, RUNGS, Rung
from .shots import measure_long, measure_rung
from .weights import OwnWeights, kit_with

TRUTH = "truth"
BASE = "guided 4"  # as the demo's first edition ran by default; speeds are compared with it
TIMED_LATENTS = 15  # of which the first chunk is there already
BUDGET_S = 300.0


@dataclass(frozen=True, slots=True)
class Case:
    """The shots of a rung, or of rendered truth; `long` ones are measured for drift alone."""

    rung: str
    long: bool = False


@dataclass(frozen=True, slots=True)
class LadderPlan:
    """The rungs (empty: all that can be made), seeds of each, rounds of timing, and workers.

    `long` of the seeds have a long shot too. `student` is a folder with distilled weights, without
    which its rungs are omitted, and `decoder` a VAE's file for the rung of another decoder.
    `record` is a file with finished shots.
    """

    student: Path | None = None
    decoder: Path | None = None
    rungs: tuple[str, ...] = ()
    shots: int = 16
    long: int = 4
    rounds: int = 8
    workers: int = 1
    record: Path | None = None

    def chosen(self) -> dict[str, Rung]:
        """The rungs by name; the reference is always one of them."""
        names = [name for name in RUNGS if not self.rungs or name in {*self.rungs, REFERENCE}]
        for name in self.rungs:
            self.own.check(name, RUNGS[name].takes)
        return {name: RUNGS[name] for name in names if self.own.holds(RUNGS[name].takes)}

    @property
    def own(self) -> OwnWeights:
        """What rungs may take in place of the demo's weights."""
        return OwnWeights(self.student, self.decoder)

    def cases(self) -> dict[str, Case]:
        """Every case by the name under which its shots are kept: truth, rungs, long shots."""
        cases = {TRUTH: Case(TRUTH)}
        for rung in self.chosen():
            cases[self.name(rung)] = Case(rung)
            cases[self.name(rung, long=True)] = Case(rung, long=True)
        return cases

    def name(self, rung: str, *, long: bool = False) -> str:
        """The name of a rung's case; weights that it takes are a part of it."""
        name = " by ".join([rung, *self.own.only(RUNGS[rung].takes).prints()])
        return f"{name}, long" if long else name


def main(json_path: Path | None) -> None:
    """Run the suite without a student, show the results, and save them to `json_path` if given."""
    publish(measure(LadderPlan()), json_path)


def measure(plan: LadderPlan) -> LadderResults:
    """Measure all shots, compare each rung with the reference, and time the rungs."""
    records = Records(plan.record, {"suite": "ladder", "weights": list(demo_weights())})
    short = [name for name, case in plan.cases().items() if not case.long]
    long = [name for name, case in plan.cases().items() if case.long]
    jobs = records.missing(short, range(plan.shots)) + records.missing(long, range(plan.long))
    records.complete(partial(measure_job, plan), jobs, plan.workers, FOREVER)
    results = LadderResults(asdict(plan), records.made_with)
    truth = _first(records.of(TRUTH), plan.shots)
    for rung in plan.chosen():
        shots = _first(records.of(plan.name(rung)), plan.shots)
        results.add(rung, shots, truth, _first(records.of(plan.name(rung, long=True)), plan.long))
    for rung in plan.chosen():
        if rung != REFERENCE:
            results.compare(rung, REFERENCE)
    if plan.rounds:
        add_speed(results, plan)
    return results


def measure_job(plan: LadderPlan, job: Job) -> Measurement:
    """Make and measure the shots of a seed in one case."""
    name, seed = job
    case = plan.cases()[name]
    with torch.inference_mode():
        if case.rung == TRUTH:
            return measure_truth(kit_with(OwnWeights()), seed, Recipe())
        rung = RUNGS[case.rung]
        make = measure_long if case.long else measure_rung
        return make(kit_of(rung, plan.own), seed, rung.recipe)


def kit_of(rung: Rung, own: OwnWeights) -> Kit:
    """The networks of a rung."""
    kit = kit_with(own.only(rung.takes))
    if rung.products != torch.float32:
        kit = replace(kit, layers=Layers(packed=PackedWeights(rung.products)))
    return replace(kit, vae=rung.decoding(kit.vae))


def add_speed(results: LadderResults, plan: LadderPlan) -> None:
    """Add how much faster than BASE each rung denoises, and with decoding."""
    kits = {name: kit_of(rung, plan.own) for name, rung in plan.chosen().items()}
    kits.setdefault(BASE, kit_with(OwnWeights()))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        for what, decodes in (("denoising", False), ("with decoding", True)):
            cases = {
                name: _prepared(kit, RUNGS[name].recipe, decodes) for name, kit in kits.items()
            }
            seconds = paired_seconds(cases, rounds=plan.rounds, budget_s=BUDGET_S)
            for name in cases:
                results.speeds[f"{name}: {what}"] = ratio_interval(seconds[BASE], seconds[name])
    finally:
        torch.set_num_threads(threads)


def _prepared(kit: Kit, recipe: Recipe, decodes: bool) -> Prepare:
    """Later chunks of a shot, after a first one that is not timed."""
    prompts = [(0, caption(random_values(random.Random(0)), random.Random(0)))]
    with torch.inference_mode():
        history = [*sample(kit, replace(Recipe(), length=DEMO.chunk_frames), prompts, 0)]

    @torch.inference_mode()
    def run() -> object:
        chunks = [*sample(kit, replace(recipe, length=TIMED_LATENTS), prompts, 0, history)]
        return decode(kit, chunks) if decodes else chunks

    return lambda: run


def _first(shots: Mapping[int, Measurement], count: int) -> dict[int, Measurement]:
    return {seed: shot for seed, shot in shots.items() if seed < count}
