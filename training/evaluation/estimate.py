"""A mean over clips and its uncertainty."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

RESAMPLES = 2000


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean over clips with its 95 % bootstrap interval."""

    mean: float
    low: float
    high: float
    clips: int

    def __str__(self) -> str:
        return f"{self.mean:.3f} [{self.low:.3f}, {self.high:.3f}]"


def estimate(values: Sequence[float]) -> Estimate:
    """Return mean and percentile bootstrap interval of at least one value, with a fixed seed."""
    sample = np.asarray(values, dtype=np.float64)
    draws = np.random.default_rng(0).choice(sample, (RESAMPLES, len(sample))).mean(1)
    low, high = np.percentile(draws, [2.5, 97.5])
    return Estimate(float(sample.mean()), float(low), float(high), len(sample))
