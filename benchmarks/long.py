"""`longtake bench long`: is the ten thousandth latent frame like the hundredth?

One guided shot of the demo model on a window with a sink, 48x32 pixels, two steps a chunk; journal,
decoder and video file included. Memory held and processor time per chunk over its length, what
waits to be written, and whether the latents show a period at the window's length or a seam at 1,024
frames, where models with a table of positions have one.

    python -m longtake.benchmarks.long --record long.jsonl --json out.json

is the same with options. Each shot has a process of its own, since what is freed is not given back;
`--record` keeps the shots that are done, and goes on with the others.
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
from ._long.long_shot import STORAGES, Course, Plan, course_of, shot
from ._shared.demo import demo_weights
from ._shared.paired import Interval, median_interval
from ._shared.records import Records
from ._shared.report import Results

SEAM = 1024  # latent frames: the length of the usual table of rotary positions
WARM_UP = 0.05  # of the shot, while allocators and caches fill
FLAT = 0.02  # growth of resident memory
LASTING = 0.05  # growth of the time per chunk, over the whole shot
FEW = 4  # chunks that may wait: two for the encoder, one in it, one just handed over
BLOCKS = 40  # of chunks, whose medians the slope is taken over
RESAMPLES = 2000
FOREVER = float("inf")
NEW_FILE = click.Path(path_type=Path, dir_okay=False)


def main(json_path: Path | None) -> None:
    """Run the suite, show it, and write it to `json_path` when there is one."""
    report(Plan(), json_path)


def report(plan: Plan, json_path: Path | None) -> None:
    """Measure, show and write."""
    results = measure(plan)
    results.publish(json_path)


def measure(plan: Plan) -> Results:
    """A shot on each way to store the history, or on those that are named."""
    names = plan.storages or STORAGES
    made_with = {
        "latent_frames": plan.length, "window": [plan.window_frames, plan.sink_frames],
        "steps": plan.steps, "size": [plan.rows, plan.columns], "weights": demo_weights(),
    }  # fmt: skip
    records, results = Records(plan.record, made_with), Results("long")
    for job in records.missing([*names], range(1)):
        records.complete(partial(shot, plan), [job], 1, FOREVER)
    for name in names:
        course = course_of(records.found[name, 0])
        _judge(results, f"{plan.length} latent frames, {name}", course, plan)
    return results


def _judge(results: Results, name: str, seen: Course, plan: Plan) -> None:
    warm = int(len(seen.seconds) * WARM_UP)
    held = np.array(seen.resident[warm:])
    results.samples[f"{name}: CPU seconds a chunk"] = [*seen.seconds]
    results.samples[f"{name}: resident bytes"] = [*seen.resident]
    results.figures[f"{name}: CPU seconds a chunk"] = median_interval(seen.seconds[warm:])
    results.bytes[f"{name}: resident after warm-up"] = int(held[0])
    results.bytes[f"{name}: resident at most"] = int(held.max())
    results.at_most(f"{name}: resident memory, most over least, - 1", spread(held), FLAT)
    slope = relative_slope(seen.seconds[warm:])
    results.figures[f"{name}: CPU seconds a chunk, change over the shot"] = slope
    results.at_most(f"{name}: time per chunk does not grow (high bound)", slope.high, LASTING)
    results.at_most(f"{name}: chunks made and not in the file yet", max(seen.unfiled), FEW)
    results.at_most(f"{name}: chunks handed out and not in the journal", max(seen.unkept), 0)
    period = period_at(seen.change, plan.window_frames)
    results.at_most(
        f"{name}: correlation at the window's length above its neighbours'", period, 0.1
    )
    if len(seen.change) > SEAM + 3:
        results.at_most(f"{name}: the step at {SEAM}, in deviations", step_at(seen.change), 4.0)


def spread(held: npt.NDArray[np.float64]) -> float:
    """The most over the least, less one, of medians of blocks: what just waits for the encoder, or
    has just been freed, comes and goes from chunk to chunk.
    """
    medians = [float(np.median(part)) for part in np.array_split(held, min(BLOCKS, len(held)))]
    return max(medians) / min(medians) - 1


def relative_slope(seconds: Sequence[float]) -> Interval:
    """How much the time per chunk changes from start to end, as a share of its median: the median
    of all slopes between medians of blocks (Theil and Sen), with its bootstrap 95 % interval.
    """
    count = min(BLOCKS, len(seconds))
    blocks = np.array([np.median(part) for part in np.array_split(np.array(seconds), count)])
    dice = np.random.default_rng(0)
    picks = [np.sort(dice.integers(0, count, count)) for _ in range(RESAMPLES)]
    slopes = np.array([_theil_sen(pick, blocks[pick]) for pick in picks])
    scale = count / float(np.median(blocks))
    low, high = np.percentile(slopes * scale, [2.5, 97.5])
    middle = _theil_sen(np.arange(count), blocks) * scale
    return Interval(middle, float(low), float(high), len(seconds))


def _theil_sen(x: npt.NDArray[np.int64], y: npt.NDArray[np.float64]) -> float:
    i, j = np.triu_indices(len(x), 1)
    apart = x[j] - x[i]
    return float(np.median((y[j] - y[i])[apart > 0] / apart[apart > 0]))


def period_at(change: Sequence[float], lag: int, chunk: int = DEMO.chunk_frames) -> float:
    """How far the autocorrelation at `lag` stands above the median of its neighbours', whole chunks
    away: the step into a chunk is another one than those within, which is a period of its own.
    """
    x = np.array(change) - np.mean(change)
    whole = float((x * x).sum())
    around = [n for n in (lag + chunk * k for k in range(-3, 4)) if n > 0 and n != lag]
    of = {n: float((x[n:] * x[:-n]).sum()) / whole for n in (*around, lag)}
    return of[lag] - float(np.median([of[n] for n in around]))


def step_at(change: Sequence[float], frame: int = SEAM) -> float:
    """The largest step within two latent frames of `frame`, in deviations from the usual one."""
    x = np.array(change)
    return float((x[frame - 3 : frame + 2].max() - x.mean()) / x.std())


@click.command(help=__doc__)
@click.option(
    "--latents", "latent_frames", default=Plan().latent_frames, type=click.IntRange(min=120)
)
@click.option("--storage", "storages", multiple=True, type=click.Choice([*STORAGES]))
@click.option("--record", type=NEW_FILE, help="Keep shots in FILE, and go on from there.")
@click.option("--json", "json_path", type=NEW_FILE, help="Write the results to FILE.")
def command(json_path: Path | None, **options: object) -> None:
    """Command line."""
    with reporting():
        report(Plan(**options), json_path)  # type: ignore[arg-type]


if __name__ == "__main__":
    command()
