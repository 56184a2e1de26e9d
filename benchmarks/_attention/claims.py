"""What the speed bench of attention says of its samples: medians, ratios within rounds, claims."""

from __future__ import annotations

from .._shared.paired import Interval, median_interval, ratio_interval
from .._shared.report import Results
from .cases import AUTO, BOTH, CASES, DENSE_CASE, TEMP, WINDOW_CASE
from .plan import Plan

LONG = 2048  # latent frames, where dense attention must be left far behind


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
