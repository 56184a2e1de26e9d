"""Medians, ratios and claims of the attention speed bench."""

from __future__ import annotations

from .._shared.paired import Interval, median_interval, ratio_interval
from .._shared.report import Results
from .cases import AUTO, BOTH, CASES, DENSE_CASE, TEMP, WINDOW_CASE
from .plan import SpeedPlan

LONG = 2048  # latent frames, from which dense attention must be much slower


def summarise(plan: SpeedPlan, results: Results, history: int) -> None:
    """Add medians, and the speed-up of each case over dense attention."""
    for name in plan.cases_at(history):
        at, baseline = plan.label(name, history), CASES[name].baseline
        results.figures[at] = median_interval(results.samples[at])
        if name != baseline and baseline in plan.cases_at(history):
            over = plan.label(f"{baseline} / {name}", history)
            results.figures[over] = ratio(plan, results, (baseline, name), history)


def ratio(plan: SpeedPlan, results: Results, cases: tuple[str, str], history: int) -> Interval:
    """Return the first case's time over the second's, from the rounds that timed both."""
    samples = [results.samples[plan.label(name, history)] for name in cases]
    rounds = min(map(len, samples))
    return ratio_interval(*(seconds[:rounds] for seconds in samples))


def claim(plan: SpeedPlan, results: Results) -> None:
    """Judge the targets, each on the bound of its interval, if their cases were run."""
    for history in plan.histories:
        claim_faster(plan, results, history)


def claim_faster(plan: SpeedPlan, results: Results, history: int) -> None:
    """Judge at one history which cases are faster, or hardly slower, than others."""

    def time_cases(*cases: str) -> bool:
        return set(cases) <= set(plan.cases_at(history))

    for name in (TEMP, BOTH):
        if history == LONG and time_cases(name, DENSE_CASE):
            low = ratio(plan, results, (DENSE_CASE, name), history).low
            results.at_least(f"{plan.prefix}{name} is 5x faster than dense at {history}", low, 5)
        if time_cases(name, WINDOW_CASE):
            high = ratio(plan, results, (name, WINDOW_CASE), history).high
            text = f"{plan.prefix}{name} is no slower than {WINDOW_CASE} at {history}"
            results.at_most(text, high, 1.05)
    if time_cases(AUTO, DENSE_CASE):
        high = ratio(plan, results, (AUTO, DENSE_CASE), history).high
        results.at_most(f"{plan.prefix}auto is no slower than dense at {history}", high, 1.03)
