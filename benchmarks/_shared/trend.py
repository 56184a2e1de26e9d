"""The trend of a series: how much a cost changes over a long rollout."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from .paired import Interval

BLOCKS = 40  # groups of samples; the slope is taken over their medians
RESAMPLES = 2000


def relative_slope(seconds: Sequence[float]) -> Interval:
    """Return the change of the time per chunk from start to end, as a share of its median.

    The slope is the median of all slopes between medians of blocks (Theil-Sen), with its 95 %
    bootstrap interval.
    """
    count = min(BLOCKS, len(seconds))
    blocks = np.array([np.median(part) for part in np.array_split(np.array(seconds), count)])
    dice = np.random.default_rng(0)
    picks = [np.sort(dice.integers(0, count, count)) for _ in range(RESAMPLES)]
    slopes = np.array([_theil_sen(pick, blocks[pick]) for pick in picks])
    scale = count / float(np.median(blocks))
    low, high = np.percentile(slopes * scale, [2.5, 97.5])
    middle = _theil_sen(np.arange(count), blocks) * scale
    return Interval(middle, float(low), float(high), len(seconds))


def _theil_sen(x: npt.NDArray[np.int64], y: npt.NDArray[np.float64]) -> float:
    i, j = np.triu_indices(len(x), 1)
    apart = x[j] - x[i]
    return float(np.median((y[j] - y[i])[apart > 0] / apart[apart > 0]))
