"""Who sees whom in one pass of the model: its latent frames, and the history through a place."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..attention.history import HistoryCache
from ..attention.views import PartOfHistory, ReachingBack, SideBySide
from ..model.dit import SelfAttention
from .histories import Place
from .sparse import SparseRollout


@dataclass(frozen=True, slots=True)
class Sight:
    """The latent frames of a pass, in its order: how many of them, from the front, each may look
    at, where each stands and the first place it may look at, both counted from the first active
    frame. `lowest` is empty where nothing is too far back. `progress` is the share of their steps
    that they have behind them.
    """

    visible: Sequence[int]
    offsets: Sequence[int]
    lowest: Sequence[int]
    progress: Sequence[float]

    def through(
        self, places: Sequence[Place], caches: Sequence[HistoryCache], sparse: SparseRollout
    ) -> SelfAttention:
        """What all `places` look at in one pass, neighbouring cache rows together."""
        runs: list[list[Place]] = []
        for place in places:
            if runs and place.follows(runs[-1][-1]):
                runs[-1].append(place)
            else:
                runs.append([place])
        parts = [(len(run), self._of(run, caches[run[0].cache], sparse)) for run in runs]
        return parts[0][1] if len(parts) == 1 else SideBySide(parts)

    def _of(
        self, run: Sequence[Place], cache: HistoryCache, sparse: SparseRollout
    ) -> SelfAttention:
        at, slots = run[0].at, run[0].slots
        rows = slice(run[0].row, run[0].row + len(run))
        positions = [at + offset for offset in self.offsets]
        if self.lowest:
            chosen = range(len(cache.held)) if slots is None else slots
            lowest = [at + offset for offset in self.lowest]
            return ReachingBack(cache, self.visible, rows, chosen, positions, lowest)
        if slots is None:
            whole = cache.attention(len(positions), self.visible, rows=rows, positions=positions)
            return sparse.over(run[0].cache, whole, self.progress)
        return PartOfHistory(cache, self.visible, rows, slots, positions)
