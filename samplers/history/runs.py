"""Runs of neighbouring latent frames with the highest scores."""

from __future__ import annotations

from collections.abc import Sequence

ROUNDING = 9  # decimals of a run's score; of equal runs the newest is taken


def best_runs(scores: Sequence[float], frames: int, runs: int) -> list[int]:
    """The indices of `frames` scores in `runs` runs of neighbours with the greatest sums, rising.

    The longest runs are taken first, each where it is best beside those taken before. Where no
    such run is left, a shorter one is taken.
    """
    free = [True] * len(scores)
    for run in range(min(runs, frames)):
        size = frames // runs + (run < frames % runs)
        while size and not (starts := _starts(free, size)):
            size -= 1
        if size:
            best = max(starts, key=lambda at: (round(sum(scores[at : at + size]), ROUNDING), at))
            free[best : best + size] = [False] * size
    return [i for i, is_free in enumerate(free) if not is_free]


def _starts(free: Sequence[bool], size: int) -> list[int]:
    """Where a run of `size` free places begins."""
    return [at for at in range(len(free) - size + 1) if all(free[at : at + size])]
