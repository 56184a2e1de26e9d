"""Paired timing and its statistics: cases take turns in every round; medians carry an interval.

A shared machine drifts. What slows one case slows its neighbours in the same round, so ratios
within rounds stay true. Intervals are bootstrap 95 % intervals of the median. Claims are judged on
the bound of an interval.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

RESAMPLES = 4_000
MIN_ROUNDS = 3

Prepare = Callable[[], Callable[[], object]]
"""Set a case up, untimed, and return the function to time."""


@dataclass(frozen=True, slots=True)
class Interval:
    """A median, or another percentile in its place, its 95 % bounds, and the number of samples."""

    median: float
    low: float
    high: float
    samples: int


def median_interval(samples: Sequence[float]) -> Interval:
    """Return the median of `samples` with its bootstrap interval, drawn with a fixed seed."""
    return _interval(samples, lambda values: np.median(values, axis=-1))


def percentile_interval(samples: Sequence[float], percent: float) -> Interval:
    """Return a percentile of `samples`, by nearest rank, in place of their median."""

    def statistic(values: Floats) -> Floats:
        percentiles: Floats = np.percentile(values, percent, axis=-1, method="inverted_cdf")
        return percentiles

    return _interval(samples, statistic)


def _interval(samples: Sequence[float], statistic: Callable[[Floats], Floats]) -> Interval:
    if not samples:
        raise ValueError("an interval needs at least one sample")
    values = np.asarray(samples, dtype=np.float64)
    picks = np.random.Generator(np.random.Philox(0)).integers(
        0, len(values), (RESAMPLES, len(values))
    )
    low, high = np.quantile(statistic(values[picks]), [0.025, 0.975])
    return Interval(float(statistic(values)), float(low), float(high), len(values))


def ratio_interval(above: Sequence[float], below: Sequence[float]) -> Interval:
    """Return the median of above / below, round by round."""
    return median_interval([a / b for a, b in zip(above, below, strict=True)])


def paired_seconds(
    cases: Mapping[str, Prepare],
    *,
    rounds: int,
    budget_s: float,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, list[float]]:
    """Return seconds of every case in every round, after one warm-up round.

    Each round starts with another case. Rounds end when `budget_s` is spent, but not before three.
    Use `time.process_time` as the `clock` for processor time, which a busy machine hardly changes.
    """
    names = list(cases)
    seconds: dict[str, list[float]] = {name: [] for name in names}
    began = time.perf_counter()
    for turn in range(-1, rounds):
        if turn >= MIN_ROUNDS and time.perf_counter() - began > budget_s:
            break
        first = turn % len(names)
        for name in names[first:] + names[:first]:
            run = cases[name]()
            started = clock()
            run()
            elapsed = clock() - started
            if turn >= 0:
                seconds[name].append(elapsed)
    return seconds
