"""`longtake bench core`: the cost of the cache, the streaming VAE and the engine.

history     a chunk after 4 to 256 latent frames: recomputed, from the full cache, from a window
vae         streaming decode and encode against all at once
overhead    a whole headless run: the time outside model, VAE and encoding
busy        whole runs, idle and beside a program that keeps a core busy

    python -m longtake.benchmarks.core --only busy --before DIR --json out.json

runs one part, here against the command line of another checkout, and may take fewer rounds.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import click

from ._shared import overhead, vae
from ._shared.busy_core import ROOT, BusyPlan, measure_busy
from ._shared.history import CASES as HISTORY_CASES
from ._shared.history import cache_bytes, history_case, history_once
from ._shared.paired import Interval, median_interval, paired_seconds, ratio_interval
from ._shared.process_memory import peak_bytes
from ._shared.report import Results
from ._shared.vae import vae_case


@dataclass(frozen=True, slots=True)
class CorePlan:
    """The amount of work. `memory` measures peaks, which starts a process for each case."""

    histories: tuple[int, ...] = (4, 16, 64, 256)
    rounds: int = 20
    budget_s: float = 300.0
    vae_latent_frames: int = 64
    chunks: int = 41
    memory: bool = True
    busy: BusyPlan = field(default_factory=BusyPlan)


def main(json_path: Path | None) -> None:
    """Run the suite, show the results, and save them to `json_path` if given."""
    results = measure(CorePlan())
    results.publish(json_path)


def measure(plan: CorePlan, only: str | None = None) -> Results:
    """Measure all parts, or one of them."""
    results = Results("core")
    for name, part in PARTS.items():
        if only in (None, name):
            part(plan, results)
    return results


def measure_history(plan: CorePlan, results: Results) -> None:
    """Measure time and memory of a chunk by length of history; judge the claims at the longest."""
    keys = [(name, history) for history in plan.histories for name in HISTORY_CASES]
    labels = {key: f"{key[0]}, history {key[1]}" for key in keys}
    cases = {labels[key]: history_case(*key) for key in keys}
    seconds = paired_seconds(cases, rounds=plan.rounds, budget_s=plan.budget_s)
    results.samples |= seconds
    results.figures |= {label: median_interval(values) for label, values in seconds.items()}
    for key, label in labels.items():
        if key[0] != "recompute":
            results.bytes[f"KV cache: {label}"] = cache_bytes(*key)
        if plan.memory:
            results.bytes[f"peak: {label}"] = peak_bytes(history_once, *key)
    *_, before, last = plan.histories
    windowed = labels["cached, window", last]
    faster = ratio_interval(seconds[labels["recompute", last]], seconds[windowed])
    grown = _grown(plan, results, before, last)
    results.figures[f"recompute / cached, window, history {last}"] = faster
    results.figures[f"cached, window, history {last} / {before}"] = grown
    ratio = cache_bytes("cached, window", last) / cache_bytes("cached, window", before)
    results.at_most(f"a windowed cache holds the same bytes after {last} as {before}", ratio, 1.0)
    results.at_least(f"a windowed cache is 10x faster at {last} latent frames", faster.low, 10)
    results.at_most(f"a windowed chunk costs the same after {last} as {before}", grown.high, 1.1)


def _grown(plan: CorePlan, results: Results, before: int, last: int) -> Interval:
    """Return a windowed chunk's late time over its early time, with only these two taking turns.

    Among all cases, the late chunk follows seconds of recomputation and a copy of the whole cache,
    which slows it by up to a quarter.
    """
    cases = {
        f"window alone, history {h}": history_case("cached, window", h) for h in (before, last)
    }
    seconds = paired_seconds(cases, rounds=2 * plan.rounds, budget_s=plan.budget_s)
    results.samples |= seconds
    early, late = seconds.values()
    return ratio_interval(late, early)


def measure_vae(plan: CorePlan, results: Results) -> None:
    """Compare streaming with all-at-once decoding and encoding."""
    cases = {name: vae_case(name, plan.vae_latent_frames) for name in vae.CASES}
    seconds = paired_seconds(cases, rounds=plan.rounds, budget_s=plan.budget_s)
    results.samples |= seconds
    results.figures |= {name: median_interval(values) for name, values in seconds.items()}
    for way in ("decode", "encode"):
        ratio = ratio_interval(seconds[f"{way}, streaming"], seconds[f"{way}, all at once"])
        results.figures[f"{way}, streaming / all at once"] = ratio
    if plan.memory:
        for name in vae.CASES:
            results.bytes[f"peak: {name}"] = peak_bytes(vae_case, name, plan.vae_latent_frames)


def measure_overhead(plan: CorePlan, results: Results) -> None:
    """Measure the engine's share of every chunk's wall time."""
    times = overhead.chunk_times(plan.chunks)
    results.samples |= {f"run: {name}": values for name, values in times.items()}
    walls = [sum(parts) for parts in zip(*times.values(), strict=True)]
    for name, values in times.items():
        results.figures[f"run: share of {name}"] = ratio_interval(values, walls)
    share = results.figures["run: share of engine"]
    results.at_most("the engine takes less than 5 % of a run", share.high, 0.05)


PARTS: dict[str, Callable[[CorePlan, Results], None]] = {
    "history": measure_history,
    "vae": measure_vae,
    "overhead": measure_overhead,
    "busy": lambda plan, results: measure_busy(plan.busy, results),
}


@click.command()
@click.option("--only", type=click.Choice(list(PARTS)), help="Measure one part.")
@click.option("--before", type=click.Path(path_type=Path, exists=True), default=ROOT)
@click.option("--rounds", default=BusyPlan().rounds, show_default=True, help="Of the part busy.")
@click.option("--seconds", default=BusyPlan().seconds, show_default=True, help="Of its videos.")
@click.option("--json", "json_path", type=click.Path(path_type=Path))
def program(
    only: str | None, before: Path, rounds: int, seconds: float, json_path: Path | None
) -> None:
    """Run `longtake bench core`, or a part of it."""
    busy = BusyPlan(rounds, seconds, before.resolve())
    measure(replace(CorePlan(), busy=busy), only).publish(json_path)


if __name__ == "__main__":
    program()
