"""`longtake bench attention_far`: what does a memory of 200 latent frames cost, and recall?

Two ways. A window of 21 recalls by content: once a chunk it fetches, from int8 in main memory, the
run of 9 past frames that look like the newest. Or the far past is read in the last two of four
steps and every second layer of the last half, where queries retrieve a quarter of its frames. The
suite measures one layer of Wan 1.3B's sizes on this processor and adds up a chunk from it. It plans
the bytes of the caches. On the demo it measures, in the same configuration, how well scenery is
recalled that left the picture 16 to 40 latent frames ago, beside the share of keys read and the
PSNR against the full history.

    python -m longtake.benchmarks.attention_far --clips 8 --rounds 3 --record far.jsonl --json F
    python -m longtake.benchmarks.attention_far --rounds 0 --memory "window with 9 recalled"

runs parts of the suite; with --record a stopped run continues. 0 clips or rounds leave a part out.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch

from ..attention.cache.policy import WindowSink
from ..attention.history import planned_bytes, planned_offloaded
from ..attention.storage.dense import DENSE
from ..model.checkpoint import read
from ..model.fingerprint import fingerprint
from ..model.preset import DEMO_FOLDER
from ..training.command import reporting
from ..training.evaluation.estimate import Estimate, estimate
from ..training.evaluation.kit import Kit, load_kit
from ..training.evaluation.returns import half_way
from ._attention import far_layer as layer
from ._attention.far_recall import (
    FAR_STORAGE,
    FULL,
    MEMORIES,
    NEAR_FRAMES,
    RECALL_STORAGE,
    RECALLED,
    RETRIEVED,
    SHARE,
    WINDOW_FRAMES,
    far_recall,
    far_rules,
)
from ._attention.recall import AWAY
from ._shared.measures import Measurement
from ._shared.paired import Interval, median_interval, paired_seconds
from ._shared.records import FOREVER, Job, Records
from ._shared.report import Results

NEW_FILE = click.Path(path_type=Path, dir_okay=False)
LONG = 10 * layer.MEMORY  # latent frames of a rollout that fills every memory
MORE_TIME, MORE_BYTES, OF_FULL = 1.15, 1.35, 0.9


@dataclass(frozen=True, slots=True)
class FarPlan:
    """Clips of each turn of the camera, and timed rounds of one layer; 0 leaves a part out.

    The clips have the seeds from `first_seed` on. The seeds below 6 chose where the past is read
    and how frames are compared. `memories` are measured beside the full history.
    """

    clips: int = 24
    first_seed: int = 6
    rounds: int = 5
    memories: tuple[str, ...] = tuple(MEMORIES)
    minutes: float = FOREVER
    record: Path | None = None


def main(json_path: Path | None) -> None:
    """Run the suite, show the results, and save them to `json_path` if given."""
    measure(FarPlan()).publish(json_path)


def measure(plan: FarPlan) -> Results:
    """Measure one layer, plan the bytes, and measure recall."""
    results = Results("attention_far")
    far = far_rules(WINDOW_FRAMES, SHARE).far
    assert far is not None
    results.notes["far reading"] = f"{far}, near {NEAR_FRAMES} of the demo; no key is merged"
    if plan.rounds:
        _time(results, plan)
    _bytes(results)
    if plan.clips:
        _recall(results, plan)
    return results


def _time(results: Results, plan: FarPlan) -> None:
    """Time one layer, and add up a chunk of 30 layers in four steps and a commit."""
    bench = layer.LayerBench(share=SHARE)
    ways = {name: way for name, way in WAYS.items() if name in plan.memories}
    timed = {layer.WINDOW_PASS, layer.LINEAR}.union(*(way.cases for way in ways.values()))
    cases = {name: case for name, case in bench.cases().items() if name in timed}
    seconds = paired_seconds(
        cases, rounds=plan.rounds, budget_s=60 * plan.minutes, clock=time.process_time
    )
    results.samples.update({f"{name}, one layer": values for name, values in seconds.items()})
    for name, values in seconds.items():
        results.figures[f"{name}, one layer"] = median_interval(values)
    rounds = [dict(zip(seconds, row, strict=True)) for row in zip(*seconds.values(), strict=True)]
    for way in ways.values():
        more = median_interval([way.ratio(row) for row in rounds])
        results.figures[f"chunk over 200 / chunk over 21, {way.name}"] = more
        text = f"200 latent frames, {way.name}, take no more time than allowed"
        results.at_most(text, more.high, MORE_TIME)


def far_ratio(seconds: Mapping[str, float]) -> float:
    """A chunk's time where passes read the far past, over that with a window, from one layer's."""
    near, far = layer.passes(far_rules(WINDOW_FRAMES, SHARE))
    count, linear = near + far, seconds[layer.LINEAR]
    memory = near * seconds[layer.NEAR_PASS] + far * seconds[layer.FAR_PASS] + count * linear
    return memory / _window(seconds)


def recalled_ratio(seconds: Mapping[str, float]) -> float:
    """The same where a window recalls: the most that can be fetched, for every chunk anew."""
    count = layer.LAYERS * (layer.STEPS + 1)
    passes = count * (seconds[layer.RECALL_PASS] + seconds[layer.LINEAR])
    return (passes + layer.LAYERS * seconds[layer.RENEWAL]) / _window(seconds)


def _window(seconds: Mapping[str, float]) -> float:
    """The seconds of a chunk over a window."""
    count = layer.LAYERS * (layer.STEPS + 1)
    return count * (seconds[layer.WINDOW_PASS] + seconds[layer.LINEAR])


@dataclass(frozen=True, slots=True)
class Way:
    """A way to remember 200 latent frames, what is timed for it, and a chunk's time from that."""

    name: str
    cases: tuple[str, ...]
    ratio: Callable[[Mapping[str, float]], float]


WAYS = {
    RECALLED: Way("recalled", (layer.RECALL_PASS, layer.RENEWAL), recalled_ratio),
    RETRIEVED: Way("read far", (layer.NEAR_PASS, layer.FAR_PASS), far_ratio),
}


def _bytes(results: Results) -> None:
    """Plan the bytes of all layers in bfloat16, on the device and in main memory."""
    heads, layers, dtype = layer.WHOLE_HEADS, layer.LAYERS, torch.bfloat16
    copied, lean = (layer.wan_shape(heads, layers, dtype, hold_rotated=x) for x in (True, False))
    window = WindowSink(WINDOW_FRAMES)
    windows = {"with rotated copies": planned_bytes(copied, window, DENSE, None),
               "without": planned_bytes(lean, window, DENSE, None)}  # fmt: skip
    for name, count in windows.items():
        results.bytes[f"window of 21, device, {name}"] = count
    ways = {"recalled": (layer.recalling(layer.MEMORY), RECALL_STORAGE),
            "read far": (WindowSink(layer.MEMORY), FAR_STORAGE)}  # fmt: skip
    for way, (policy, storage) in ways.items():
        device = planned_bytes(lean, policy, storage, LONG)
        offloaded = planned_offloaded(lean, policy, storage, LONG)
        results.bytes[f"200 latent frames, {way}, device"] = device
        results.bytes[f"200 latent frames, {way}, main memory"] = offloaded
        for name, count in windows.items():
            text = f"device bytes, {way}, over a bf16 window's {name}"
            results.at_most(text, device / count, MORE_BYTES)


def _recall(results: Results, plan: FarPlan) -> None:
    """Measure recall on the demo, as a mean over the turns of every seed."""
    weights = [fingerprint(read(file)[0]) for file in sorted(DEMO_FOLDER.glob("*.safetensors"))]
    memories = [f"{name}: {MEMORIES[name]}" for name in plan.memories]
    made_with = {"suite": "attention_far", "weights": weights, "memories": memories}
    records = Records(plan.record, made_with)
    seeds = range(plan.first_seed, plan.first_seed + plan.clips)
    jobs = [(str(away), seed) for seed in seeds for away in AWAY]
    missing = [job for job in jobs if job not in records.measurements]
    until = time.monotonic() + 60 * plan.minutes
    records.complete(partial(measure_clip, plan.memories), missing, 1, until)
    rows = {job: clip.figures for job, clip in records.measurements.items()}
    results.notes["recall"] = "figures of agreement are means over clips"
    for away in AWAY:
        _summarise(results, f"{away} away", [row for (name, _), row in rows.items()
                                             if name == str(away)])  # fmt: skip
    whole = [[rows[str(away), seed] for away in AWAY] for seed in sorted({s for _, s in rows})
             if all((str(away), seed) in rows for away in AWAY)]  # fmt: skip
    means = [{name: float(np.mean([row[name] for row in turns])) for name in turns[0]}
             for turns in whole]  # fmt: skip
    _summarise(results, "all turns", means)
    for name in (RECALLED, RETRIEVED):
        if means and name in means[0]:
            over = estimate([row[name] - OF_FULL * row[FULL] for row in means])
            results.figures[f"{name}, less nine tenths of full history's"] = _interval(over)
            results.at_least(f"{name}: recall is nine tenths of full history's", over.low, 0.0)


def _summarise(results: Results, label: str, rows: list[dict[str, float]]) -> None:
    for name in rows[0] if rows else ():
        results.samples[f"{label}: {name}"] = [row[name] for row in rows]
        results.figures[f"{label}: {name}"] = _interval(estimate([row[name] for row in rows]))


def _interval(value: Estimate) -> Interval:
    """A mean over clips in the form of a figure."""
    return Interval(value.mean, value.low, value.high, value.clips)


@cache
def _kit() -> Kit:
    """Load the demo model once."""
    return load_kit(DEMO_FOLDER)


def measure_clip(memories: Sequence[str], job: Job) -> Measurement:
    """Measure one clip with the full history and the `memories`."""
    away, seed = job
    figures = far_recall(_kit(), half_way(int(away)), seed, memories)
    return Measurement(figures, np.zeros((0, 0)))


@click.command(help=__doc__)
@click.option("--clips", type=click.IntRange(0), default=24, show_default=True)
@click.option("--first-seed", type=click.IntRange(0), default=6, show_default=True)
@click.option("--rounds", type=click.IntRange(0), default=5, show_default=True)
@click.option(
    "--memory",
    "memories",
    multiple=True,
    type=click.Choice([*MEMORIES]),
    help="Only these, beside the full history.",
)
@click.option("--minutes", default=FOREVER, help="Start no clip or round after this many minutes.")
@click.option("--record", type=NEW_FILE, help="Keep finished clips in FILE and continue from it.")
@click.option("--json", "json_path", type=NEW_FILE, help="Write the results to FILE.")
def command(json_path: Path | None, **options: Any) -> None:
    options["memories"] = options["memories"] or tuple(MEMORIES)
    with reporting():
        measure(FarPlan(**options)).publish(json_path)


if __name__ == "__main__":
    command()
