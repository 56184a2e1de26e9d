"""`longtake bench memory`: what a rollout takes, whether that was planned, and what coding costs.

courses   resident memory and bytes of the KV cache, chunk by chunk, by policy and storage
peaks     the allocator's most against the plan, for rollouts and for decoding
coding    share of bfloat16's bytes, and PSNR of the video, over several prompts and seeds
by plan   KV caches of Wan 1.3B and 14B at 832x480, with the sum written out

    python -m longtake.benchmarks.memory --latent-frames 2000 --json out.json --plot out.png

is the same with options. Flat is judged after a tenth of the rollout, when every cache is full and
the allocator has seen all sizes; 10,000 latent frames, and time, are `longtake bench long`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import click
import numpy as np

from ..attention.storage.quantize import coded_frame_bytes
from ..errors import BadInput
from ..model.preset import DEMO
from ..training.command import reporting
from ._long.trace import CASES, Course, course
from ._memory.peak import peaks
from ._memory.plan import SHAPES, planned
from ._memory.quality import CODED, LATENT_FRAMES, coded_rollouts
from ._shared.demo import demo_weights
from ._shared.paired import median_interval
from ._shared.records import Records
from ._shared.report import Results
from .long import FOREVER, relative_slope

NEW_FILE = click.Path(path_type=Path, dir_okay=False)
MIB = 2**20
FLAT = 1.02  # resident memory, its most over its least
WITHIN = 0.05  # of the plan
BFLOAT16_BYTES = 2
SHARES = {"int8": 0.53, "int4": 0.30}  # of bfloat16's bytes
DECIBELS = {"int8": 35.0, "int4": 28.0}


@dataclass(frozen=True, slots=True)
class Plan:
    """How long, and which courses (all: none named); how many rollouts are coded, and for how many
    latent frames. `record` keeps those that are done.
    """

    latent_frames: int = 2_000
    cases: tuple[str, ...] = ()
    rollouts: int = 8
    coded_frames: int = LATENT_FRAMES
    record: Path | None = None


def main(json_path: Path | None) -> None:
    """Run the suite, show it, and write it to `json_path` when there is one, its plot beside it."""
    report(Plan(), json_path, json_path.with_suffix(".png") if json_path else None)


def report(plan: Plan, json_path: Path | None, plot: Path | None) -> None:
    """Measure, show and write."""
    courses = {name: course(name, plan.latent_frames) for name in plan.cases or CASES}
    results = judged(courses)
    add_peaks(results)
    add_coding(results, plan)
    add_plans(results)
    results.publish(json_path)
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
        apart = max(abs(one - seen.planned_bytes) for one in seen.kv_bytes)
        results.at_most(f"{name}: KV bytes, from the plan", apart, 0)
        held = max(resident) / min(resident)
        results.at_most(f"{name}: resident, most over least", held, FLAT)
    return results


def add_peaks(results: Results) -> None:
    """The allocator's peaks, and how far each is from its plan."""
    for one in peaks():
        results.bytes[f"{one.name}: planned"] = one.planned
        results.bytes[f"{one.name}: allocated at most"] = one.measured
        apart = abs(one.measured / one.planned - 1)
        results.at_most(f"{one.name}: the allocator's peak, from the plan", apart, WITHIN)


def add_coding(results: Results, plan: Plan) -> None:
    """The share of bfloat16's bytes that coded latent frames take, by size of the model, and the
    PSNR of the demo's video over prompts and seeds; its low bound counts.
    """
    for name, storage in CODED.items():
        for size, shape in SHAPES.items():
            plain = 2 * shape.frame_values * BFLOAT16_BYTES  # keys and values
            share = coded_frame_bytes(storage.codec, shape) / plain
            results.at_most(f"{name}: coded bytes over bfloat16's, {size}", share, SHARES[name])
    made_with = {"latent_frames": plan.coded_frames, "weights": demo_weights()}
    records = Records(plan.record, made_with)
    jobs = records.missing(["coding"], range(plan.rollouts))
    records.complete(partial(coded_rollouts, plan.coded_frames), jobs, 1, FOREVER)
    for name, least in DECIBELS.items():
        found = [records.found["coding", seed].figures[name] for seed in range(plan.rollouts)]
        text = f"{name}: PSNR of {plan.coded_frames} latent frames, dB"
        results.samples[text] = found
        results.figures[text] = median_interval(found)
        results.at_least(f"{text} (low bound)", results.figures[text].low, least)


def add_plans(results: Results) -> None:
    """Caches of large models by plan, and the sums."""
    for one in planned():
        results.bytes[f"by plan: {one.name}"] = one.device_bytes
        results.notes[f"by plan: {one.name}"] = one.arithmetic
        if one.offloaded_bytes:
            results.bytes[f"by plan, in main memory: {one.name}"] = one.offloaded_bytes


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
    memory.set_ylim(0, 1.3 * max(max(seen.resident) for seen in courses.values()) / MIB)
    time.set_ylabel("CPU seconds a chunk (mean of 25)")
    time.set_ylim(bottom=0)
    time.set_xlabel("latent frames")
    memory.legend()
    figure.savefig(path)


@click.command(help=__doc__)
@click.option("--latent-frames", default=Plan().latent_frames, type=click.IntRange(min=120))
@click.option("--case", "cases", multiple=True, type=click.Choice([*CASES]))
@click.option("--rollouts", default=Plan().rollouts, type=click.IntRange(3), help="To be coded.")
@click.option("--record", type=NEW_FILE, help="Keep coded rollouts in FILE; go on from there.")
@click.option("--json", "json_path", type=NEW_FILE)
@click.option("--plot", type=NEW_FILE)
def command(json_path: Path | None, plot: Path | None, **options: object) -> None:
    """Command line."""
    with reporting():
        report(Plan(**options), json_path, plot)  # type: ignore[arg-type]


if __name__ == "__main__":
    command()
