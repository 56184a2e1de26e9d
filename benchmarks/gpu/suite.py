"""Runs the cases of the GPU bench that are not measured yet, and judges what the plan promised."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from ...errors import BadInput
from .._attention.wan_shaped import WAN_1_3B, wan_shaped
from .._shared.device import device_title
from .._shared.measures import Measurement
from .._shared.paired import median_interval
from .._shared.records import Records
from .._shared.report import Results, commit
from .cases import CASES, MAIN_CASE, GpuCase, budget_cases
from .page import FPS, PLAN, SECONDS, write_page
from .sharp import SHARP_CASES, SharpBench, SharpCase, official_sizes
from .shot import COMPILING, DECODE, FIRST, FRAMES, OUT_OF_MEMORY, PEAK, PLANNED, GpuBench

OVER = 1.05  # the allocator's peak over the plan, at most
Case = GpuCase | SharpCase
ONCE = 0
"""The seed of a case: its weights and its noise are always the same."""


@dataclass(frozen=True, slots=True)
class GpuPlan:
    """The device, sizes in pixels, layers, cases (none: all), and the minutes it may take."""

    device: str = "cuda"
    height: int = 480
    width: int = 832
    layers: int = WAN_1_3B.num_layers
    cases: tuple[str, ...] = ()
    minutes: float = 15.0


def main(json_path: Path | None) -> None:
    """Run the suite, show the results, and save them and a page if `json_path` is given."""
    report(GpuPlan(), json_path)


def report(plan: GpuPlan, json_path: Path | None) -> None:
    """Measure what is missing, show and save everything."""
    bench = open_bench(plan)
    sharp = SharpBench(official_sizes(plan.layers, bench.model.dtype), bench.device)
    every: dict[str, Case] = {**CASES, **SHARP_CASES}
    chosen = {name: every[name] for name in plan.cases}
    results = Results("gpu", accelerator=device_title(bench.device))
    results.notes["model"] = bench.model.note
    records = open_records(plan, bench, json_path)
    until = time.monotonic() + 60 * plan.minutes
    for name, case in (chosen or all_cases(bench)).items():
        if reason := lacks(bench, sharp, case):
            results.notes[name] = f"not run: {reason}"
            continue
        if (name, ONCE) not in records.measurements:
            if time.monotonic() >= until:
                results.notes[name] = "not run yet; the same command goes on here"
                continue
            records.add((name, ONCE), measure(bench, sharp, case))
        add_case(results, name, records.measurements[name, ONCE])
        if bench.device.type == "cuda":
            claim_memory(results, name, records.measurements[name, ONCE])
        if json_path is not None:
            results.save(json_path)
    add_ratios(results)
    results.publish(json_path)
    if json_path is not None:
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
    device = torch.device(plan.device)
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    size = plan.height, plan.width
    return GpuBench(wan_shaped(config, size, device=device, dtype=dtype), config)


def lacks(bench: GpuBench, sharp: SharpBench, case: Case) -> str | None:
    """Why a case cannot run on this device, or None."""
    return sharp.lacks(case) if isinstance(case, SharpCase) else bench.lacks(case)


def measure(bench: GpuBench, sharp: SharpBench, case: Case) -> Measurement:
    """Measure one case: of shots, or of their enlargement."""
    return sharp.measure(case) if isinstance(case, SharpCase) else bench.measure(case)


def all_cases(bench: GpuBench) -> dict[str, Case]:
    """Every case, and those of smaller cards where memory can be limited."""
    cards = budget_cases(bench.needed_bytes) if bench.device.type == "cuda" else {}
    return {**CASES, **SHARP_CASES, **cards}


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


def add_ratios(results: Results) -> None:
    """Add how many times the seconds of the usual window each case takes for a chunk."""
    usual, ends = results.figures.get(f"{MAIN_CASE}: {SECONDS}"), f": {SECONDS}"
    if usual is None:
        return
    for label, samples in results.samples.items():
        if label.removesuffix(ends) in (MAIN_CASE, *SHARP_CASES):
            continue
        times = median_interval([second / usual.median for second in samples])
        results.figures[f"{label.removesuffix(ends)}: times {MAIN_CASE}"] = times
