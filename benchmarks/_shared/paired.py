"""Paired timing and its statistics: cases take turns in every round, and medians carry an interval.

Pairing matters because a shared machine drifts: what slows one case slows its neighbours in the
same round, so ratios within rounds stay true. Intervals are bootstrap 95 % intervals of the median;
claims are judged on their bound.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

RESAMPLES = 4_000
MIN_ROUNDS = 3

Prepare = Callable[[], Callable[[], object]]
"""Sets a case up, untimed, and gives what is timed."""


@dataclass(frozen=True, slots=True)
class Interval:
    """A median, the bounds of its 95 % interval, and how many samples it comes from."""

    median: float
    low: float
    high: float
    samples: int


def median_interval(samples: Sequence[float]) -> Interval:
    """The median of `samples` with its bootstrap interval, which the samples alone decide."""
    if not samples:
        raise ValueError("an interval needs at least one sample")
    values = np.asarray(samples, dtype=np.float64)
    picks = np.random.Generator(np.random.Philox(0)).integers(
        0, len(values), (RESAMPLES, len(values))
    )
    low, high = np.quantile(np.median(values[picks], axis=1), [0.025, 0.975])
    return Interval(float(np.median(values)), float(low), float(high), len(values))


def ratio_interval(above: Sequence[float], below: Sequence[float]) -> Interval:
    """The median of above / below, round by round."""
    return median_interval([a / b for a, b in zip(above, below, strict=True)])


def paired_seconds(
    cases: Mapping[str, Prepare],
    *,
    rounds: int,
    budget_s: float,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, list[float]]:
    """Seconds of every case in every round, after one round to warm up.

    Each round begins with another case. Rounds end early, but not before three, when `budget_s` is
    spent. `time.process_time` as the `clock` counts the processor's time, which a busy machine
    changes little.
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
