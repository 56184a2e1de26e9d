"""`longtake bench memory`: the memory of a rollout against its plan, and the cost of coding.

\b
traces    resident memory and bytes of the KV cache, chunk by chunk, by policy and storage
peaks     the allocator's peak against the plan, for rollouts and for decoding
coding    share of bfloat16's bytes, and PSNR of the video, over several prompts and seeds
by plan   KV caches of Wan 1.3B and 14B at 832x480, with the arithmetic

    python -m longtake.benchmarks.memory --latent-frames 2000 --json out.json --plot out.png

runs with options. Flatness is judged after a tenth of the rollout, when every cache is full and the
allocator has seen all sizes. For 10,000 latent frames, and for time, see `longtake bench long`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import click
import numpy as np

from ..attention.storage.codec import coded_frame_bytes
from ..errors import BadInput
from ..model.preset import DEMO
from ..training.command import reporting
from ._long.trace import CASES, RolloutTrace, trace_case
from ._memory.peak import peaks
from ._memory.plan import SHAPES, planned_caches
from ._memory.quality import CODED, LATENT_FRAMES, coded_rollouts
from ._shared.demo import demo_weights
from ._shared.paired import median_interval
from ._shared.records import FOREVER, Records
from ._shared.report import Results, save_figure
from ._shared.trend import relative_slope

NEW_FILE = click.Path(path_type=Path, dir_okay=False)
MIB = 2**20
FLAT = 1.02  # resident memory, its most over its least
WITHIN = 0.05  # tolerance around the plan
BFLOAT16_BYTES = 2
SHARES = {"int8": 0.53, "int4": 0.30}  # largest shares of bfloat16's bytes
DECIBELS = {"int8": 35.0, "int4": 28.0}


@dataclass(frozen=True, slots=True)
class MemoryPlan:
    """Length and cases of the traces (empty: all), and number and length of coded rollouts.

    `record` is the file of finished coded rollouts.
    """

    latent_frames: int = 2_000
    cases: tuple[str, ...] = ()
    rollouts: int = 8
    coded_frames: int = LATENT_FRAMES
    record: Path | None = None


def main(json_path: Path | None) -> None:
    """Run the suite and show the results; save results and plot if `json_path` is given."""
    report(MemoryPlan(), json_path, json_path.with_suffix(".png") if json_path else None)


def report(plan: MemoryPlan, json_path: Path | None, plot: Path | None) -> None:
    """Measure, show and save."""
    traces = {name: trace_case(name, plan.latent_frames) for name in plan.cases or CASES}
    results = evaluate(traces)
    add_peaks(results)
    add_coding(results, plan)
    add_plans(results)
    results.publish(json_path)
    if plot is not None:
        draw(traces, plot)


def evaluate(traces: Mapping[str, RolloutTrace]) -> Results:
    """Return the figures and claims of the traces."""
    results = Results("memory")
    for name, seen in traces.items():
        settled = len(seen.seconds) // 10
        seconds, resident = seen.seconds[settled:], seen.resident[settled:]
        results.samples[f"{name}: CPU seconds a chunk"] = seen.seconds
        results.samples[f"{name}: resident bytes"] = [float(count) for count in seen.resident]
        results.figures[f"{name}: CPU seconds a chunk"] = median_interval(seconds)
        results.bytes[f"{name}: KV cache"] = max(seen.kv_bytes)
        results.bytes[f"{name}: resident"] = int(np.median(resident))
        trend = relative_slope(seconds)
        results.figures[f"{name}: CPU seconds a chunk, change over the shot"] = trend
        apart = max(abs(count - seen.planned_bytes) for count in seen.kv_bytes)
        results.at_most(f"{name}: KV bytes, from the plan", apart, 0)
        ratio = max(resident) / min(resident)
        results.at_most(f"{name}: resident, most over least", ratio, FLAT)
    return results


def add_peaks(results: Results) -> None:
    """Add the allocator's peaks, and the distance of each from its plan."""
    for peak in peaks():
        results.bytes[f"{peak.name}: planned"] = peak.planned
        results.bytes[f"{peak.name}: allocated at most"] = peak.measured
        apart = abs(peak.measured / peak.planned - 1)
        results.at_most(f"{peak.name}: the allocator's peak, from the plan", apart, WITHIN)


def add_coding(results: Results, plan: MemoryPlan) -> None:
    """Add the share of bfloat16's bytes that coded latent frames take, by model size.

    Also add the PSNR of the demo's video over prompts and seeds; the claim uses its lower bound.
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
        samples = [
            records.measurements["coding", seed].figures[name] for seed in range(plan.rollouts)
        ]
        text = f"{name}: PSNR of {plan.coded_frames} latent frames, dB"
        results.samples[text] = samples
        results.figures[text] = median_interval(samples)
        results.at_least(f"{text} (low bound)", results.figures[text].low, least)


def add_plans(results: Results) -> None:
    """Add the planned caches of large models, with the arithmetic."""
    for cache in planned_caches():
        results.bytes[f"by plan: {cache.name}"] = cache.device_bytes
        results.notes[f"by plan: {cache.name}"] = cache.arithmetic
        if cache.offloaded_bytes:
            results.bytes[f"by plan, in main memory: {cache.name}"] = cache.offloaded_bytes


def draw(traces: Mapping[str, RolloutTrace], path: Path) -> None:
    """Plot resident memory and time per chunk over each rollout; needs matplotlib."""
    try:
        from matplotlib.figure import Figure
    except ModuleNotFoundError as error:
        raise BadInput("the plot needs matplotlib; install it, or omit --plot.") from error
    figure = Figure(figsize=(11, 7), layout="constrained")
    memory, time = figure.subplots(2, 1, sharex=True)
    for name, seen in traces.items():
        frames = np.arange(1, len(seen.seconds) + 1) * DEMO.chunk_frames
        memory.plot(frames, np.array(seen.resident) / MIB, label=name)
        window = np.ones(25) / 25
        time.plot(frames[12:-12], np.convolve(seen.seconds, window, "valid"), label=name)
    memory.set_ylabel("resident MiB")
    memory.set_ylim(0, 1.3 * max(max(seen.resident) for seen in traces.values()) / MIB)
    time.set_ylabel("CPU seconds a chunk (mean of 25)")
    time.set_ylim(bottom=0)
    time.set_xlabel("latent frames")
    memory.legend()
    save_figure(figure, path)


@click.command(help=__doc__)
@click.option("--latent-frames", default=MemoryPlan().latent_frames, type=click.IntRange(min=120))
@click.option("--case", "cases", multiple=True, type=click.Choice([*CASES]))
@click.option(
    "--rollouts", default=MemoryPlan().rollouts, type=click.IntRange(3), help="Coded rollouts."
)
@click.option("--record", type=NEW_FILE, help="Keep coded rollouts in FILE and continue from it.")
@click.option("--json", "json_path", type=NEW_FILE)
@click.option("--plot", type=NEW_FILE)
def command(json_path: Path | None, plot: Path | None, **options: object) -> None:
    with reporting():
        report(MemoryPlan(**options), json_path, plot)  # type: ignore[arg-type]


if __name__ == "__main__":
    command()
