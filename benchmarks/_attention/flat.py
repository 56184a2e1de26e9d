"""Whether a chunk over a bounded cache costs the same after any history.

What such a cache held after each history is kept, and a chunk over each is timed in turn, round by
round: medians of samples taken minutes apart would also say how fast the machine was then.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from ...attention.snapshot import Snapshot
from .._shared.device import clock
from .._shared.paired import median_interval
from .._shared.report import Results
from .cases import CASES
from .plan import Plan
from .speed import SpeedBench

MOST = 0.02  # growth by 1,000 latent frames

Filled = Mapping[str, Snapshot]
"""What every bounded cache held after one history."""


def of_flat_cases(plan: Plan, filled: Filled) -> Filled:
    """Of all caches those of the cases whose cost must not grow."""
    return {CASES[name].cache: filled[CASES[name].cache] for name in plan.flat[0]}


def time_in_turn(
    plan: Plan, results: Results, bench: SpeedBench, held: Mapping[int, Filled]
) -> None:
    """Time a chunk of every such case after every history, beginning with another history in each
    round. Leaves the caches as after some history.
    """
    names, lengths = plan.flat
    now = clock(bench.model.device)
    for turn in range(plan.rounds if names else 0):
        first = turn % len(lengths)
        for name in names:
            for history in lengths[first:] + lengths[:first]:
                bench.restore({CASES[name].cache: held[history][CASES[name].cache]})
                started = now()
                bench.chunk(CASES[name])
                at = plan.label(f"in turn: {name}", history)
                results.samples.setdefault(at, []).append(now() - started)


def claim_flat(plan: Plan, results: Results) -> None:
    """Time, memory and the cache's size of such cases do not grow with the history."""
    names, lengths = plan.flat
    for name in names:
        samples = [results.samples[plan.label(f"in turn: {name}", at)] for at in lengths]
        rounds = zip(*samples, strict=True)
        what = f"{plan.of}{name}: growth of time by 1,000 frames"
        results.figures[what] = median_interval([slope(lengths, seconds) for seconds in rounds])
        results.at_most(what, results.figures[what].high, MOST)
        held, work = ([results.bytes[f"{kind}: {plan.label(name, at)}"] or 0 for at in lengths]
                      for kind in ("KV cache", "in work"))  # fmt: skip
        memory = [float(a + b) for a, b in zip(held, work, strict=True)]
        grown = f"{plan.of}{name}: growth of memory by 1,000 frames"
        results.at_most(grown, slope(lengths, memory), MOST)
        results.at_most(f"{plan.of}{name}: different sizes of its cache", len(set(held)), 1)


def slope(histories: Sequence[int], values: Sequence[float]) -> float:
    """The growth of `values` with 1,000 latent frames of history, over their median."""
    return float(np.polyfit(np.array(histories) / 1000, values, 1)[0] / np.median(values))
