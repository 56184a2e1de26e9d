"""Measurement rollouts for tests of the statistics by tenths."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from longtake.benchmarks._shared.measures import Measurement
from longtake.benchmarks._shared.records import Job, Records

RNG = np.random.default_rng(0)
TRUTH = [Measurement({}, RNG.standard_normal((8, 48))) for _ in range(20)]


def figures(fall: float = 0.0, growth: float = 0.0) -> Measurement:
    """A rollout whose readings and motion fall, and whose error grows, from tenth to tenth."""
    figures = {f"right readings {i}": 1 - fall * i for i in range(10)}
    figures |= {f"motion {i}": 2 * (1 - fall * i) for i in range(10)}
    return Measurement(figures, np.stack([np.full(48, growth * i) for i in range(10)]))


def run_here(
    self: Records, measure: Callable[[Job], Measurement], jobs: list[Job], *_: object
) -> None:
    """`Records.complete` without processes."""
    for job in jobs:
        self.add(job, measure(job))
