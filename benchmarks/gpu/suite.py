"""Runs the cases of the GPU bench that are not measured yet, and judges what the plan promised."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

import torch
from rich.console import Console

from ...errors import BadInput
from .._attention.wan_shaped import WAN_1_3B, wan_shaped
from .._shared.device import device_title
from .._shared.measures import Measurement
from .._shared.paired import median_interval
from .._shared.records import Records
from .._shared.report import Results, commit
from .cases import CASES, MAIN_CASE, GpuCase, budget_cases
from .in_core import CORE_CASES, CoreBench, CoreShot, add_turns
from .page import FPS, PLAN, SECONDS, write_page
from .sharp import SHARP_CASES, SharpBench, SharpCase, official_sizes
from .shot import COMPILING, DECODE, FIRST, FRAMES, OUT_OF_MEMORY, PEAK, PLANNED, GpuBench
from .straight import STRAIGHT_CASES, StraightBench, StraightCase

OVER = 1.05  # the allocator's peak over the plan, at most
Case = GpuCase | SharpCase | StraightCase | CoreShot
EVERY: dict[str, Case] = {**CASES, **STRAIGHT_CASES, **CORE_CASES, **SHARP_CASES}
ONCE = 0
"""The seed of a case: its weights and its noise are always the same."""


@dataclass(frozen=True, slots=True)
class GpuPlan:
    """The device, sizes in pixels, layers, cases (none: all), and the minutes it may take.

    `comfy` is a ComfyUI checkout for the cases inside the core.
    """

    device: str = "cuda"
    height: int = 480
    width: int = 832
    layers: int = WAN_1_3B.num_layers
    cases: tuple[str, ...] = ()
    minutes: float = 15.0
    comfy: Path | None = None


def main(json_path: Path | None) -> None:
    """Run the suite, show the results, and save them and a page if `json_path` is given."""
    comfy = os.environ.get("COMFYUI_PATH")
    report(GpuPlan(comfy=Path(comfy) if comfy else None), json_path)


class Way(NamedTuple):
    """Why a case cannot run on this device, or None; and what measures the case."""

    lacks: Callable[[], str | None]
    measure: Callable[[], Measurement]


@dataclass(frozen=True, slots=True)
class Benches:
    """What measures each kind of case."""

    ours: GpuBench
    sharp: SharpBench
    straight: StraightBench
    core: CoreBench

    def way(self, case: Case) -> Way:
        """How a case is measured: shots of ours, their enlargement, or a peer's."""
        match case:
            case SharpCase():
                return Way(partial(self.sharp.lacks, case), partial(self.sharp.measure, case))
            case GpuCase():
                return Way(partial(self.ours.lacks, case), partial(self.ours.measure, case))
            case CoreShot():
                return Way(self.core.lacks, partial(self.core.measure, case))
            case StraightCase():
                return Way(lambda: None, partial(self.straight.measure, case))


def report(plan: GpuPlan, json_path: Path | None) -> None:
    """Measure what is missing, show and save everything."""
    bench = open_bench(plan)
    sharp = SharpBench(official_sizes(plan.layers, bench.model.dtype), bench.device)
    benches = Benches(bench, sharp, StraightBench(bench), CoreBench(bench, plan.comfy))
    console = Console(stderr=True)
    chosen = {name: EVERY[name] for name in plan.cases}
    results = Results("gpu", accelerator=device_title(bench.device))
    results.notes["model"] = bench.model.note
    records = open_records(plan, bench, json_path)
    until = time.monotonic() + 60 * plan.minutes
    for name, case in (chosen or all_cases(bench)).items():
        way = benches.way(case)
        if reason := way.lacks():
            results.notes[name] = f"not run: {reason}"
            continue
        if (name, ONCE) not in records.measurements:
            if time.monotonic() >= until:
                results.notes[name] = "not run yet; the same command goes on here"
                continue
            began = time.monotonic()
            try:
                records.add((name, ONCE), way.measure())
            except Exception as error:  # noqa: BLE001  the other cases are worth their time
                add_failure(results, name, error)
                console.print(f"{name}: {results.notes[name]}", highlight=False)
                save(results, json_path)
                continue
            took = time.monotonic() - began
            console.print(f"{name}: measured in {took:.0f} s", highlight=False)
        measured = records.measurements[name, ONCE]
        add_case(results, name, measured)
        if isinstance(case, CoreShot):
            add_turns(results, name, case, measured)
        if bench.device.type == "cuda" and PLANNED in measured.figures:
            claim_memory(results, name, measured)
        save(results, json_path)
    add_ratios(results)
    results.show(Console(soft_wrap=True))
    save(results, json_path)


def save(results: Results, json_path: Path | None) -> None:
    """Save the results and their page if `json_path` is given."""
    if json_path is not None:
        results.save(json_path)
        write_page(results, json_path.with_suffix(".md"))


def open_bench(plan: GpuPlan) -> GpuBench:
    """The model of Wan's shape with random weights on the plan's device."""
    if plan.device == "cuda" and not torch.cuda.is_available():
        raise BadInput(
            "this bench needs an NVIDIA GPU, and PyTorch finds none here; to try the bench itself "
            "on a CPU, run `python -m longtake.benchmarks.gpu --device cpu --layers 2 --height 64 "
            "--width 96`."
        )
    for side in (plan.height, plan.width):
        if side % 16:
            raise BadInput(f"height and width must be multiples of 16 pixels; got {side}.")
    config = replace(WAN_1_3B, num_layers=plan.layers)
    device = torch.device(plan.device, 0)  # torch limits the memory of a numbered GPU alone
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    size = plan.height, plan.width
    return GpuBench(wan_shaped(config, size, device=device, dtype=dtype), config)


def all_cases(bench: GpuBench) -> dict[str, Case]:
    """Every case, and those of smaller cards where memory can be limited."""
    cards = budget_cases(bench.needed_bytes) if bench.device.type == "cuda" else {}
    return {**EVERY, **cards}


def open_records(plan: GpuPlan, bench: GpuBench, json_path: Path | None) -> Records:
    """The finished cases beside the results, of the same code, sizes and device."""
    made_with = {
        "commit": commit(), "device": device_title(bench.device), "torch": torch.__version__,
        "pixels": [plan.height, plan.width], "layers": plan.layers,
    }  # fmt: skip
    return Records(json_path and json_path.with_suffix(".record.jsonl"), made_with)


def add_case(results: Results, name: str, measured: Measurement) -> None:
    """Add a case's seconds, frames a second and bytes."""
    figures = measured.figures
    if PLANNED in figures:
        results.bytes[f"{name}: {PLAN}"] = int(figures[PLANNED])
    if OUT_OF_MEMORY in figures:
        return
    seconds = [*measured.features[0]]
    results.samples[f"{name}: {SECONDS}"] = seconds
    results.figures[f"{name}: {FIRST}"] = median_interval([figures[FIRST]])
    results.figures[f"{name}: {SECONDS}"] = median_interval(seconds)
    for what in (DECODE, COMPILING):
        if what in figures:
            results.figures[f"{name}: {what}"] = median_interval([figures[what]])
    whole = [figures[FRAMES] / (chunk + figures.get(DECODE, 0.0)) for chunk in seconds]
    results.figures[f"{name}: {FPS}"] = median_interval(whole)
    results.bytes[f"{name}: {PEAK}"] = int(figures[PEAK])


def claim_memory(results: Results, name: str, measured: Measurement) -> None:
    """Claim that a case has room, and takes no more than planned.

    On a CPU no claim is made: its peak also holds what a GPU leaves in main memory.
    """
    figures = measured.figures
    if OUT_OF_MEMORY in figures:
        results.at_most(f"{name}: runs out of memory", 1, 0)
    else:
        over = figures[PEAK] / figures[PLANNED]
        results.at_most(f"{name}: {PEAK}, over the plan", over, OVER)


def add_failure(results: Results, name: str, error: Exception) -> None:
    """Say that a case failed, and why; the same command tries it again."""
    lines = str(error).strip().splitlines() or ["no message"]
    results.notes[name] = f"failed: {type(error).__name__}: {lines[0][:200]}"
    results.at_most(f"{name}: fails", 1, 0)


def add_ratios(results: Results) -> None:
    """Add how many times the seconds of the usual window each case takes for a chunk."""
    usual, ends = results.figures.get(f"{MAIN_CASE}: {SECONDS}"), f": {SECONDS}"
    if usual is None:
        return
    for label, samples in results.samples.items():
        if not label.endswith(ends) or label.removesuffix(ends) in (MAIN_CASE, *SHARP_CASES):
            continue
        times = median_interval([second / usual.median for second in samples])
        results.figures[f"{label.removesuffix(ends)}: times {MAIN_CASE}"] = times
