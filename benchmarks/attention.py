"""`longtake bench attention`: what long histories cost and give: dense, windowed, merged, sparse.

speed    a chunk at 128x128 after 64 to 4,096 latent frames; every case in turn in one run
quality  `longtake bench attention_quality`, an experiment of its own

    python -m longtake.benchmarks.attention --history 256 --history 2048 --rounds 3 --case dense

is the same with options. The whole suite takes an hour of one core, and 8 GB.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np
from rich.console import Console

from ..attention.sparse_stats import SparseStats
from ..training.command import reporting
from ._attention_speed import (
    ABLATION,
    AUTO,
    BOTH,
    CASES,
    DENSE_CASE,
    SPARSE,
    TEMP,
    WINDOW_CASE,
    SpeedBench,
)
from ._paired import median_interval, ratio_interval
from ._report import Results

FLAT = (BOTH, TEMP, WINDOW_CASE)


@dataclass(frozen=True)
class Plan:
    """Histories in latent frames, rounds at each, and when a history has had enough of them."""

    histories: tuple[int, ...] = (64, 256, 1024, 2048, 4096)
    rounds: int = 8
    budget_s: float = 240.0
    ablation_at: int = 256
    cases: tuple[str, ...] = tuple(CASES)


def main(json_path: Path | None) -> None:
    """Run the suite, show it, and write it to `json_path`, also after each history."""
    results = Results("attention")
    measure(Plan(), results, lambda: None if json_path is None else results.save(json_path))
    results.show(Console(soft_wrap=True))


def measure(plan: Plan, results: Results, keep: Callable[[], None]) -> None:
    """All histories, the shortest first."""
    bench = SpeedBench(plan.histories[-1] + 3, {CASES[name].cache for name in plan.cases})
    for history in plan.histories:
        bench.fill(history)
        measure_at(plan, results, bench, history)
        if history == plan.ablation_at:
            for name in ABLATION:
                bench.caches.pop(CASES[name].cache, None)
        keep()
    claim(plan, results)
    keep()


def measure_at(plan: Plan, results: Results, bench: SpeedBench, history: int) -> None:
    """Time every case in turn, beginning with another one in each round."""
    names = [name for name in plan.cases if CASES[name].cache in bench.caches]
    held = {name: bench.caches[CASES[name].cache].bytes for name in names}
    began = time.perf_counter()
    last: dict[str, SparseStats] = {}
    for turn in range(-1, plan.rounds):
        if turn >= 3 and time.perf_counter() - began > plan.budget_s:
            break
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            started = time.perf_counter()
            last[name] = bench.chunk(CASES[name])
            elapsed = time.perf_counter() - started
            if turn >= 0:
                results.samples.setdefault(label(name, history), []).append(elapsed)
    for name in names:
        seconds = results.samples[label(name, history)]
        results.figures[label(name, history)] = median_interval(seconds)
        results.bytes[f"KV cache: {label(name, history)}"] = held[name]
        dense = results.samples[label(DENSE_CASE, history)]
        if name != DENSE_CASE:
            results.figures[f"dense / {label(name, history)}"] = ratio_interval(dense, seconds)
        if last[name].density is not None:
            density = median_interval([last[name].density or 1.0])
            results.figures[f"density: {label(name, history)}"] = density


def claim(plan: Plan, results: Results) -> None:
    """The issue's targets, each on the bound of its interval, where their cases were run."""

    def ratio(above: str, below: str, history: int) -> tuple[float, float]:
        samples = (results.samples[label(name, history)] for name in (above, below))
        found = ratio_interval(*samples)
        return found.low, found.high

    for history in (h for h in (2048,) if h in plan.histories):
        for name in (TEMP, BOTH, SPARSE):
            if name not in plan.cases:
                continue
            low, _ = ratio(DENSE_CASE, name, history)
            results.at_least(f"{name} is 5x faster than dense at {history}", low, 5)
    for history in plan.histories:
        _, high = ratio(AUTO, DENSE_CASE, history)
        results.at_most(f"auto is no slower than dense at {history}", high, 1.03)
        _, high = ratio(BOTH, WINDOW_CASE, history)
        results.at_most(f"{BOTH} is no slower than {WINDOW_CASE} at {history}", high, 1.05)
    for name in FLAT if len(plan.histories) > 1 else ():
        results.at_most(f"{name}: slope per 1,000 frames", slope(plan, results, name), 0.02)


def slope(plan: Plan, results: Results, name: str) -> float:
    """The growth of a chunk's time with 1,000 latent frames of history, over its median."""
    at = plan.histories
    medians = [float(np.median(results.samples[label(name, h)])) for h in at]
    return float(np.polyfit(np.array(at) / 1000, medians, 1)[0] / np.median(medians))


def label(name: str, history: int) -> str:
    """A case at a history."""
    return f"{name}, history {history}"


@click.command(help=__doc__)
@click.option(
    "--history", "histories", multiple=True, type=click.IntRange(1), help="Latent frames."
)
@click.option("--rounds", type=click.IntRange(1), default=Plan.rounds, show_default=True)
@click.option("--case", "names", multiple=True, type=click.Choice([*CASES]), help="Only these.")
@click.option("--json", "json_path", type=click.Path(path_type=Path, dir_okay=False))
def command(
    histories: tuple[int, ...], rounds: int, names: tuple[str, ...], json_path: Path | None
) -> None:
    """Command line."""
    chosen = sorted(histories or Plan.histories)
    plan = Plan(tuple(chosen), rounds, cases=names or tuple(CASES))
    results = Results("attention")
    with reporting():
        measure(plan, results, lambda: None if json_path is None else results.save(json_path))
        results.show(Console(soft_wrap=True))


if __name__ == "__main__":
    command()
