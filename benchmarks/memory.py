"""`longtake bench memory`: are long rollouts flat in memory and time, and what does a cache take?

    python -m longtake.benchmarks.memory --latent-frames 2000 --json out.json --plot out.png

is the same with options. Flat is judged after a tenth of the rollout, when every cache is full and
the allocator has seen all sizes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np
from rich.console import Console

from ..errors import BadInput
from ..model.preset import DEMO
from ._long import CASES, Course, course, slope
from ._memory_plan import planned
from ._paired import Interval, median_interval
from ._report import Results

NEW_FILE = click.Path(path_type=Path, dir_okay=False)
MIB = 2**20
FLAT = 1.02  # resident memory, its most over its least
LASTING = 1.10  # time a chunk, the trend over the whole rollout
PER = 1000  # latent frames that a slope is given for


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
        seconds = seen.seconds[settled:]
        results.samples[f"CPU seconds a chunk: {name}"] = seen.seconds
        results.figures[f"CPU seconds a chunk: {name}"] = median_interval(seconds)
        trend = per_frames(slope(seconds), len(seconds))
        results.figures[f"CPU seconds a chunk, slope over {PER} latent frames: {name}"] = trend
        kv = max(seen.kv_bytes)
        results.bytes[f"KV cache: {name}"] = kv
        results.at_most(f"{name}: KV bytes over planned", kv / seen.planned_bytes, 1.0)
        growth = trend.low * len(seen.seconds) * DEMO.chunk_frames / PER
        typical = results.figures[f"CPU seconds a chunk: {name}"].median
        results.at_most(f"{name}: time a chunk, end over start", 1 + growth / typical, LASTING)
        if seen.resident is not None:
            _judge_resident(results, name, seen.resident[settled:])
    for one in planned():
        results.bytes[f"by plan: {one.name}"] = one.device_bytes
        if one.elsewhere_bytes:
            results.bytes[f"by plan, in main memory: {one.name}"] = one.elsewhere_bytes
    return results


def _judge_resident(results: Results, name: str, resident: Sequence[int]) -> None:
    results.samples[f"resident bytes: {name}"] = [float(one) for one in resident]
    results.bytes[f"resident: {name}"] = int(np.median(resident))
    trend = slope([one / MIB for one in resident])
    per = per_frames(trend, len(resident))
    results.figures[f"resident MiB, slope over {PER} latent frames: {name}"] = per
    results.at_most(f"{name}: resident, most over least", max(resident) / min(resident), FLAT)


def per_frames(found: tuple[float, ...], samples: int) -> Interval:
    """A slope from chunk to chunk as one over `PER` latent frames."""
    median, low, high = (one * PER / DEMO.chunk_frames for one in found)
    return Interval(median, low, high, samples)


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
        if seen.resident is not None:
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
