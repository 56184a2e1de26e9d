"""`longtake bench memory`: are long rollouts flat in memory and time, and what does a cache take?

    python -m longtake.benchmarks.memory --latent-frames 2000 --json out.json --plot out.png

is the same with options. Flat is judged after a tenth of the rollout, when every cache is full and
the allocator has seen all sizes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np
from rich.console import Console

from ..errors import BadInput
from ..model.preset import DEMO
from ._course import CASES, Course, course
from ._memory_plan import planned
from ._paired import median_interval
from ._report import Results
from .long import relative_slope

NEW_FILE = click.Path(path_type=Path, dir_okay=False)
MIB = 2**20
FLAT = 1.02  # resident memory, its most over its least
LASTING = 0.05  # growth of the time a chunk, over the whole rollout


@dataclass(frozen=True, slots=True)
class Plan:
    """How long, and which cases (all: none named)."""

    latent_frames: int = 10_000
    cases: tuple[str, ...] = ()


def main(json_path: Path | None) -> None:
    """Run the suite, show it, and write it to `json_path` when there is one, its plot beside it."""
    report(Plan(), json_path, json_path.with_suffix(".png") if json_path else None)


def report(plan: Plan, json_path: Path | None, plot: Path | None) -> None:
    """Measure, show and write."""
    courses = {name: course(name, plan.latent_frames) for name in plan.cases or CASES}
    results = judged(courses)
    console = Console(soft_wrap=True)
    results.show(console)
    for one in planned():
        console.print(f"{one.name}: {one.arithmetic}", highlight=False)
    if json_path is not None:
        results.save(json_path)
    if plot is not None:
        draw(courses, plot)


def judged(courses: Mapping[str, Course]) -> Results:
    """What was seen, in figures, and the claims."""
    results = Results("memory")
    for name, seen in courses.items():
        settled = len(seen.seconds) // 10
        seconds, resident = seen.seconds[settled:], seen.resident[settled:]
        results.samples[f"{name}: CPU seconds a chunk"] = seen.seconds
        results.samples[f"{name}: resident bytes"] = [float(one) for one in seen.resident]
        results.figures[f"{name}: CPU seconds a chunk"] = median_interval(seconds)
        results.bytes[f"{name}: KV cache"] = max(seen.kv_bytes)
        results.bytes[f"{name}: resident"] = int(np.median(resident))
        trend = relative_slope(seconds)
        results.figures[f"{name}: CPU seconds a chunk, change over the shot"] = trend
        kv = max(seen.kv_bytes) / seen.planned_bytes
        results.at_most(f"{name}: KV bytes over planned", kv, 1.0)
        held = max(resident) / min(resident)
        results.at_most(f"{name}: resident, most over least", held, FLAT)
        results.at_most(f"{name}: time a chunk does not grow (low bound)", trend.low, LASTING)
    for one in planned():
        results.bytes[f"by plan: {one.name}"] = one.device_bytes
        if one.elsewhere_bytes:
            results.bytes[f"by plan, in main memory: {one.name}"] = one.elsewhere_bytes
    return results


def draw(courses: Mapping[str, Course], path: Path) -> None:
    """Resident memory and time a chunk over each rollout; needs matplotlib."""
    try:
        from matplotlib.figure import Figure
    except ModuleNotFoundError as error:
        raise BadInput("the plot needs matplotlib; install it, or leave the plot out.") from error
    figure = Figure(figsize=(11, 7), layout="constrained")
    memory, time = figure.subplots(2, 1, sharex=True)
    for name, seen in courses.items():
        frames = np.arange(1, len(seen.seconds) + 1) * DEMO.chunk_frames
        memory.plot(frames, np.array(seen.resident) / MIB, label=name)
        window = np.ones(25) / 25
        time.plot(frames[12:-12], np.convolve(seen.seconds, window, "valid"), label=name)
    memory.set_ylabel("resident MiB")
    memory.set_ylim(bottom=0)
    time.set_ylabel("CPU seconds a chunk (mean of 25)")
    time.set_ylim(bottom=0)
    time.set_xlabel("latent frames")
    memory.legend()
    figure.savefig(path)


@click.command()
@click.option("--latent-frames", default=Plan().latent_frames, type=click.IntRange(min=120))
@click.option("--case", "cases", multiple=True, type=click.Choice([*CASES]))
@click.option("--json", "json_file", type=NEW_FILE)
@click.option("--plot", type=NEW_FILE)
def _command(
    latent_frames: int, cases: tuple[str, ...], json_file: Path | None, plot: Path | None
) -> None:
    """Measure long rollouts of the demo model."""
    report(Plan(latent_frames, cases), json_file, plot)


if __name__ == "__main__":
    _command()
