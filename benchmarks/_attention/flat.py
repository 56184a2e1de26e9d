"""Whether a chunk over a bounded cache costs the same after any history.

The caches are snapshotted after each history. Then a chunk over each snapshot is timed in turn,
round by round. Medians of samples taken minutes apart would also contain changes in the machine's
speed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from ...attention.snapshot import Snapshot
from .._shared.device import clock
from .._shared.paired import median_interval
from .._shared.report import Results
from .cases import CASES
from .plan import SpeedPlan
from .speed import SpeedBench

MAX_GROWTH = 0.02  # per 1,000 latent frames

CacheSnapshots = Mapping[str, Snapshot]
"""The content of every bounded cache after one history."""


def select_flat_cases(plan: SpeedPlan, filled: CacheSnapshots) -> CacheSnapshots:
    """Select the caches of the cases whose cost must not grow."""
    return {CASES[name].cache: filled[CASES[name].cache] for name in plan.flat[0]}


def time_in_turn(
    plan: SpeedPlan, results: Results, bench: SpeedBench, snapshots: Mapping[int, CacheSnapshots]
) -> None:
    """Time a chunk of every flat case after every history, starting with another history each
    round.

    Leaves the caches in the state of some history.
    """
    names, lengths = plan.flat
    now = clock(bench.model.device)
    for turn in range(plan.rounds if names else 0):
        first = turn % len(lengths)
        for name in names:
            for history in lengths[first:] + lengths[:first]:
                bench.restore({CASES[name].cache: snapshots[history][CASES[name].cache]})
                started = now()
                bench.chunk(CASES[name])
                at = plan.label(f"in turn: {name}", history)
                results.samples.setdefault(at, []).append(now() - started)


def claim_flat(plan: SpeedPlan, results: Results) -> None:
    """Claim that time, memory and cache size of flat cases do not grow with the history."""
    names, lengths = plan.flat
    for name in names:
        samples = [results.samples[plan.label(f"in turn: {name}", at)] for at in lengths]
        rounds = zip(*samples, strict=True)
        what = f"{plan.prefix}{name}: growth of time by 1,000 frames"
        results.figures[what] = median_interval([slope(lengths, seconds) for seconds in rounds])
        results.at_most(what, results.figures[what].high, MAX_GROWTH)
        cache, work = ([results.bytes[f"{kind}: {plan.label(name, at)}"] or 0 for at in lengths]
                      for kind in ("KV cache", "in work"))  # fmt: skip
        memory = [float(a + b) for a, b in zip(cache, work, strict=True)]
        grown = f"{plan.prefix}{name}: growth of memory by 1,000 frames"
        results.at_most(grown, slope(lengths, memory), MAX_GROWTH)
        results.at_most(f"{plan.prefix}{name}: different sizes of its cache", len(set(cache)), 1)


def slope(histories: Sequence[int], values: Sequence[float]) -> float:
    """Return the growth of `values` per 1,000 latent frames of history, over their median."""
    return float(np.polyfit(np.array(histories) / 1000, values, 1)[0] / np.median(values))
