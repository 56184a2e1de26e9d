"""`longtake bench attention`: what long histories cost: dense, windowed, merged, sparse.

A chunk of the embedded model at 128x128 after 64 to 4,096 latent frames, decoding included; every
case in turn in one run, by the processor's time of one process, which a busy machine changes
little. Beside time: the bytes of the KV cache, and of what is in work beside it at the peak of one
more such chunk, which is not timed; how like dense attention's the decoded chunk is, from the same
noise.
What is remembered and how good the picture is at lengths the model was trained for are experiments
of their own: `attention_recall`, `attention_quality`.

    python -m longtake.benchmarks.attention --history 256 --history 2048 --rounds 3 --case dense
    python -m longtake.benchmarks.attention --history 2048 --ablation

is the same with options. Cases are in `_attention_cases.py`; those of the paper's ablation are left
out from 512 latent frames on unless cases are chosen. At each history a case costs a chunk for each
round and two more: half a second each for one of bounded memory, whatever the history, and over the
full history 0.6 s at 64 latent frames and 9 s at 2,048. So 20 cases are 6 minutes at 64, and cases
over the full history end after 3 rounds where these took `--budget` seconds. In all about an hour
of one core, and 8 GB.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import click
import numpy as np
from rich.console import Console

from ..training.command import reporting
from ..training.train_vae import psnr
from ._attention_cases import (
    ABLATION,
    AUTO,
    BOTH,
    CASES,
    DENSE_CASE,
    FULL,
    MAIN,
    TEMP,
    WINDOW_CASE,
)  # fmt: skip
from ._attention_speed import SpeedBench
from ._paired import FEWEST_ROUNDS, Interval, median_interval, ratio_interval
from ._report import Results
from ._similarity import ssim

EQUAL_DB = 99.0  # of pictures that are equal
LONG = 2048  # latent frames, where dense attention must be left far behind
FLAT = (BOTH, TEMP, WINDOW_CASE)


@dataclass(frozen=True)
class Plan:
    """Histories in latent frames and rounds at each. Of cases over the full history, three at
    least, and no more once they took `budget_s`. From `long_from` on, only those of MAIN.
    """

    histories: tuple[int, ...] = (64, 256, 1024, 2048, 4096)
    rounds: int = 16
    budget_s: float = 90.0
    long_from: int = 512
    cases: tuple[str, ...] = tuple(CASES)

    def at(self, history: int) -> list[str]:
        """The cases that are timed at a history."""
        return [name for name in self.cases if history < self.long_from or name in MAIN]

    def only(self, names: tuple[str, ...]) -> Plan:
        """With these cases at every history; with none named, as it is."""
        chosen = tuple(name for name in CASES if name in names)
        return replace(self, cases=chosen, long_from=self.histories[-1] + 1) if chosen else self


def main(json_path: Path | None) -> None:
    """Run the suite, show it, and write it to `json_path`, also after each history."""
    results = Results("attention")
    measure(Plan(), results, lambda: None if json_path is None else results.save(json_path))
    results.show(Console(soft_wrap=True))


def measure(plan: Plan, results: Results, keep: Callable[[], None]) -> None:
    """All histories, the shortest first."""
    bench = SpeedBench(plan.histories[-1] + 3, [CASES[name] for name in plan.cases])
    for history in plan.histories:
        bench.keep_only([CASES[name] for name in plan.at(history)])
        bench.fill(history)
        compare(plan, results, bench, history)
        time_at(plan, results, bench, history)
        weigh(plan, results, bench, history)
        summarise(plan, results, history)
        keep()
    claim(plan, results)
    keep()


def compare(plan: Plan, results: Results, bench: SpeedBench, history: int) -> None:
    """Every case's chunk from one noise against that of dense attention; it also warms up."""
    baselines = {CASES[name].baseline for name in plan.at(history)}
    of_dense = {name: bench.chunk(CASES[name], keep=False)[1] for name in baselines}
    for name in plan.at(history):
        stats, made = bench.chunk(CASES[name], keep=False)
        dense = of_dense[CASES[name].baseline]
        found = {"PSNR": min(psnr(made, dense), EQUAL_DB), "SSIM": ssim(made, dense)}
        if stats.density is not None:
            found["density"] = stats.density
        for what, value in found.items():
            results.figures[f"{what}: {label(name, history)}"] = median_interval([value])


def time_at(plan: Plan, results: Results, bench: SpeedBench, history: int) -> None:
    """Time every case in turn, beginning with another one in each round."""
    names, spent = plan.at(history), 0.0
    for turn in range(plan.rounds):
        if turn >= FEWEST_ROUNDS and spent > plan.budget_s:
            names = [name for name in names if CASES[name].cache != FULL]
        first = turn % max(1, len(names))
        for name in names[first:] + names[:first]:
            started = time.process_time()
            bench.chunk(CASES[name])
            elapsed = time.process_time() - started
            results.samples.setdefault(label(name, history), []).append(elapsed)
            spent += elapsed if CASES[name].cache == FULL else 0.0


def weigh(plan: Plan, results: Results, bench: SpeedBench, history: int) -> None:
    """The bytes of every case's cache, and of what is in work beside it in one more chunk: in all,
    and before it is decoded, which takes as much in every case and often the most.
    """
    for name in plan.at(history):
        at, peaks = label(name, history), bench.peaks_in_work(CASES[name])
        results.bytes[f"KV cache: {at}"] = bench.held_bytes(CASES[name])
        results.bytes[f"in work: {at}"] = max(peaks)
        results.bytes[f"in work before decoding: {at}"] = peaks[0]


def summarise(plan: Plan, results: Results, history: int) -> None:
    """Medians, and how many times faster than dense each case is."""
    for name in plan.at(history):
        seconds = results.samples[label(name, history)]
        results.figures[label(name, history)] = median_interval(seconds)
        baseline = CASES[name].baseline
        if name != baseline and baseline in plan.at(history):
            found = ratio(results, baseline, name, history)
            results.figures[f"{baseline} / {label(name, history)}"] = found


def ratio(results: Results, above: str, below: str, history: int) -> Interval:
    """Of the rounds in which both were timed."""
    samples = [results.samples[label(name, history)] for name in (above, below)]
    rounds = min(map(len, samples))
    return ratio_interval(*(seconds[:rounds] for seconds in samples))


def claim(plan: Plan, results: Results) -> None:
    """The issue's targets, each on the bound of its interval, where their cases were run."""

    def timed(*names: str) -> bool:
        return set(names) <= set(plan.at(history))

    for history in plan.histories:
        for name in (TEMP, BOTH):
            if history == LONG and timed(name, DENSE_CASE):
                low = ratio(results, DENSE_CASE, name, history).low
                results.at_least(f"{name} is 5x faster than dense at {history}", low, 5)
            if timed(name, WINDOW_CASE):
                high = ratio(results, name, WINDOW_CASE, history).high
                results.at_most(f"{name} is no slower than {WINDOW_CASE} at {history}", high, 1.05)
        if timed(AUTO, DENSE_CASE):
            high = ratio(results, AUTO, DENSE_CASE, history).high
            results.at_most(f"auto is no slower than dense at {history}", high, 1.03)
    if len(plan.histories) > 1:
        for name in [name for name in FLAT if name in plan.cases]:
            claim_flat(plan, results, name)


def claim_flat(plan: Plan, results: Results, name: str) -> None:
    """A case's time and memory do not grow with the history."""
    at = [label(name, history) for history in plan.histories]
    seconds = [float(np.median(results.samples[one])) for one in at]
    held, work = (
        [results.bytes[f"{what}: {one}"] or 0 for one in at] for what in ("KV cache", "in work")
    )
    memory = [float(a + b) for a, b in zip(held, work, strict=True)]
    for what, values in (("time", seconds), ("memory", memory)):
        grown = slope(plan.histories, values)
        results.at_most(f"{name}: slope of {what} per 1,000 frames", grown, 0.02)
    results.at_most(f"{name}: different sizes of its cache", len(set(held)), 1)


def slope(histories: Sequence[int], values: Sequence[float]) -> float:
    """The growth of `values` with 1,000 latent frames of history, over their median."""
    return float(np.polyfit(np.array(histories) / 1000, values, 1)[0] / np.median(values))


def label(name: str, history: int) -> str:
    """A case at a history."""
    return f"{name}, history {history}"


@click.command(help=__doc__)
@click.option(
    "--history", "histories", multiple=True, type=click.IntRange(1), help="Latent frames."
)
@click.option("--rounds", type=click.IntRange(1), default=Plan.rounds, show_default=True)
@click.option("--case", "names", multiple=True, type=click.Choice([*CASES]), help="Only these.")
@click.option("--ablation", is_flag=True, help="Those of the ablation, beside any --case.")
@click.option("--budget", "budget_s", default=Plan.budget_s, show_default=True, help="Seconds.")
@click.option("--json", "json_path", type=click.Path(path_type=Path, dir_okay=False))
def command(  # noqa: PLR0913
    histories: tuple[int, ...], rounds: int, names: tuple[str, ...], ablation: bool,
    budget_s: float, json_path: Path | None,
) -> None:  # fmt: skip
    """Command line."""
    lengths = tuple(sorted(histories or Plan.histories))
    plan = Plan(lengths, rounds, budget_s).only(names + tuple(ABLATION) * ablation)
    results = Results("attention")
    with reporting():
        measure(plan, results, lambda: None if json_path is None else results.save(json_path))
        results.show(Console(soft_wrap=True))


if __name__ == "__main__":
    command()
