"""What the speed bench of attention says of its samples: medians, ratios within rounds, claims."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ._attention_cases import AUTO, BOTH, CASES, DENSE_CASE, TEMP, WINDOW, WINDOW_CASE
from ._attention_plan import Plan
from ._paired import Interval, median_interval, ratio_interval
from ._report import Results

LONG = 2048  # latent frames, where dense attention must be left far behind
FLAT = (BOTH, TEMP, WINDOW_CASE)


def summarise(plan: Plan, results: Results, history: int) -> None:
    """Medians, and how many times faster than dense each case is."""
    for name in plan.at(history):
        at, baseline = plan.label(name, history), CASES[name].baseline
        results.figures[at] = median_interval(results.samples[at])
        if name != baseline and baseline in plan.at(history):
            over = plan.label(f"{baseline} / {name}", history)
            results.figures[over] = ratio(plan, results, (baseline, name), history)


def ratio(plan: Plan, results: Results, cases: tuple[str, str], history: int) -> Interval:
    """The first case's time over the second's, of the rounds in which both were timed."""
    samples = [results.samples[plan.label(name, history)] for name in cases]
    rounds = min(map(len, samples))
    return ratio_interval(*(seconds[:rounds] for seconds in samples))


def claim(plan: Plan, results: Results) -> None:
    """The issue's targets, each on the bound of its interval, where their cases were run."""
    for history in plan.histories:
        claim_faster(plan, results, history)
    lengths = [history for history in plan.histories if history >= WINDOW.window_frames]
    for name in [name for name in FLAT if len(lengths) > 1 and name in plan.cases]:
        claim_flat(plan, results, name, lengths)


def claim_faster(plan: Plan, results: Results, history: int) -> None:
    """What is faster than what, or hardly slower, at a history."""

    def timed(*cases: str) -> bool:
        return set(cases) <= set(plan.at(history))

    for name in (TEMP, BOTH):
        if history == LONG and timed(name, DENSE_CASE):
            low = ratio(plan, results, (DENSE_CASE, name), history).low
            results.at_least(f"{plan.of}{name} is 5x faster than dense at {history}", low, 5)
        if timed(name, WINDOW_CASE):
            high = ratio(plan, results, (name, WINDOW_CASE), history).high
            text = f"{plan.of}{name} is no slower than {WINDOW_CASE} at {history}"
            results.at_most(text, high, 1.05)
    if timed(AUTO, DENSE_CASE):
        high = ratio(plan, results, (AUTO, DENSE_CASE), history).high
        results.at_most(f"{plan.of}auto is no slower than dense at {history}", high, 1.03)


def claim_flat(plan: Plan, results: Results, name: str, histories: Sequence[int]) -> None:
    """A case's time and memory do not grow with histories, each of which fills its cache."""
    at = [plan.label(name, history) for history in histories]
    seconds = [float(np.median(results.samples[one])) for one in at]
    held, work = (
        [results.bytes[f"{what}: {one}"] or 0 for one in at] for what in ("KV cache", "in work")
    )
    memory = [float(a + b) for a, b in zip(held, work, strict=True)]
    for what, values in (("time", seconds), ("memory", memory)):
        grown = slope(histories, values)
        results.at_most(f"{plan.of}{name}: slope of {what} per 1,000 frames", grown, 0.02)
    results.at_most(f"{plan.of}{name}: different sizes of its cache", len(set(held)), 1)


def slope(histories: Sequence[int], values: Sequence[float]) -> float:
    """The growth of `values` with 1,000 latent frames of history, over their median."""
    return float(np.polyfit(np.array(histories) / 1000, values, 1)[0] / np.median(values))
