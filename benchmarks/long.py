"""`longtake bench long`: is the ten thousandth latent frame like the hundredth?

One guided shot of the demo model on a window with a sink, 48x32 pixels, two steps per chunk;
journal, decoder and video file included. The suite measures resident memory, processor time per
chunk and the number of chunks waiting to be written. It also looks for a period of the window's
length in the latents, and for a seam at 1,024 frames. Models with a table of positions have such a
seam.

    python -m longtake.benchmarks.long --record long.jsonl --json out.json

runs with options. Each shot has its own process, because freed memory is not given back. `--record`
keeps finished shots and continues with the others.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import click
import numpy as np
import numpy.typing as npt

from ..model.preset import DEMO
from ..training.command import reporting
from ._long.long_shot import STORAGES, LongShotPlan, ShotTrace, shot, trace_of
from ._shared.demo import demo_weights
from ._shared.paired import median_interval
from ._shared.records import FOREVER, Records
from ._shared.report import Results
from ._shared.trend import BLOCKS, relative_slope

SEAM = 1024  # latent frames: the usual length of a table of rotary positions
WARM_UP = 0.05  # share of the shot in which allocators and caches fill
MAX_MEMORY_GROWTH = 0.02
MAX_TIME_GROWTH = 0.05  # of the time per chunk, over the whole shot
MAX_WAITING = 4  # chunks: two queued, one in the encoder, one just delivered
NEW_FILE = click.Path(path_type=Path, dir_okay=False)


def main(json_path: Path | None) -> None:
    """Run the suite, show the results, and save them to `json_path` if given."""
    report(LongShotPlan(), json_path)


def report(plan: LongShotPlan, json_path: Path | None) -> None:
    """Measure, show and save."""
    results = measure(plan)
    results.publish(json_path)


def measure(plan: LongShotPlan) -> Results:
    """Make a shot for each storage of the history, or for the storages in the plan."""
    names = plan.storages or STORAGES
    made_with = {
        "latent_frames": plan.length, "window": [plan.window_frames, plan.sink_frames],
        "steps": plan.steps, "size": [plan.rows, plan.columns], "weights": demo_weights(),
    }  # fmt: skip
    records, results = Records(plan.record, made_with), Results("long")
    for job in records.missing([*names], range(1)):
        records.complete(partial(shot, plan), [job], 1, FOREVER)
    for name in names:
        trace = trace_of(records.measurements[name, 0])
        _judge(results, f"{plan.length} latent frames, {name}", trace, plan)
    return results


def _judge(results: Results, name: str, trace: ShotTrace, plan: LongShotPlan) -> None:
    warm = int(len(trace.seconds) * WARM_UP)
    resident = np.array(trace.resident[warm:])
    results.samples[f"{name}: CPU seconds a chunk"] = [*trace.seconds]
    results.samples[f"{name}: resident bytes"] = [*trace.resident]
    results.figures[f"{name}: CPU seconds a chunk"] = median_interval(trace.seconds[warm:])
    results.bytes[f"{name}: resident after warm-up"] = int(resident[0])
    results.bytes[f"{name}: resident at most"] = int(resident.max())
    results.at_most(
        f"{name}: resident memory, most over least, - 1", spread(resident), MAX_MEMORY_GROWTH
    )
    slope = relative_slope(trace.seconds[warm:])
    results.figures[f"{name}: CPU seconds a chunk, change over the shot"] = slope
    results.at_most(
        f"{name}: time per chunk does not grow (high bound)", slope.high, MAX_TIME_GROWTH
    )
    results.at_most(f"{name}: chunks made and not in the file yet", max(trace.unfiled), MAX_WAITING)
    results.at_most(f"{name}: chunks handed out and not in the journal", max(trace.unkept), 0)
    period = period_at(trace.change, plan.window_frames)
    results.at_most(
        f"{name}: correlation at the window's length above its neighbours'", period, 0.1
    )
    if len(trace.change) > SEAM + 3:
        results.at_most(f"{name}: the step at {SEAM}, in deviations", step_at(trace.change), 4.0)


def spread(resident: npt.NDArray[np.float64]) -> float:
    """Return max / min - 1 of the medians of blocks.

    Medians ignore memory that comes and goes from chunk to chunk.
    """
    medians = [
        float(np.median(part)) for part in np.array_split(resident, min(BLOCKS, len(resident)))
    ]
    return max(medians) / min(medians) - 1


def period_at(change: Sequence[float], lag: int, chunk: int = DEMO.chunk_frames) -> float:
    """Return how far the autocorrelation at `lag` lies above the median of its neighbours'.

    Neighbours are whole chunks away: the step into a chunk differs from steps within it, which is a
    period of its own.
    """
    x = np.array(change) - np.mean(change)
    whole = float((x * x).sum())
    around = [n for n in (lag + chunk * k for k in range(-3, 4)) if n > 0 and n != lag]
    correlation = {n: float((x[n:] * x[:-n]).sum()) / whole for n in (*around, lag)}
    return correlation[lag] - float(np.median([correlation[n] for n in around]))


def step_at(change: Sequence[float], frame: int = SEAM) -> float:
    """Return the largest step within two latent frames of `frame`, in standard deviations."""
    x = np.array(change)
    return float((x[frame - 3 : frame + 2].max() - x.mean()) / x.std())


@click.command(help=__doc__)
@click.option(
    "--latents", "latent_frames", default=LongShotPlan().latent_frames, type=click.IntRange(min=120)
)
@click.option("--storage", "storages", multiple=True, type=click.Choice([*STORAGES]))
@click.option("--record", type=NEW_FILE, help="Keep finished shots in FILE and continue from it.")
@click.option("--json", "json_path", type=NEW_FILE, help="Write the results to FILE.")
def command(json_path: Path | None, **options: object) -> None:
    with reporting():
        report(LongShotPlan(**options), json_path)  # type: ignore[arg-type]


if __name__ == "__main__":
    command()
