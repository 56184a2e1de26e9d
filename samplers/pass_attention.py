"""What the latent frames of one pass may attend to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..attention.history import HistoryCache
from ..attention.views import LimitedLookback, PartialHistory, SplitRows
from ..model.dit import SelfAttention
from .history.rollout_history import RolloutHistory
from .history.selection import CacheView


@dataclass(frozen=True, slots=True)
class PassVisibility:
    """How far the latent frames of a pass look, in the pass's order.

    `visible` counts, from the front, the frames of the pass that each frame sees. `offsets` are the
    frames' places and `lowest` the first place that each may look at; both count from the first
    active frame. `lowest` is empty where the schedule sets no bound. `progress` is the share of
    its steps that each frame has behind it.
    """

    visible: Sequence[int]
    offsets: Sequence[int]
    lowest: Sequence[int]
    progress: Sequence[float]

    def attention_for(self, views: Sequence[CacheView], history: RolloutHistory) -> SelfAttention:
        """The attention of all `views` in one pass, neighbouring cache rows together."""
        runs: list[list[CacheView]] = []
        for view in views:
            if runs and view.continues(runs[-1][-1]):
                runs[-1].append(view)
            else:
                runs.append([view])
        parts = [(len(run), self._attention_of(run, history)) for run in runs]
        return parts[0][1] if len(parts) == 1 else SplitRows(parts)

    def _attention_of(self, run: Sequence[CacheView], history: RolloutHistory) -> SelfAttention:
        index, start, slots = run[0].cache, run[0].position, run[0].slots
        cache: HistoryCache = history.caches[index]
        rows = slice(run[0].row, run[0].row + len(run))
        positions = [start + offset for offset in self.offsets]
        if self.lowest:
            chosen = range(len(cache.kept_frames)) if slots is None else slots
            lowest = [start + offset for offset in self.lowest]
            return LimitedLookback(cache, self.visible, rows, chosen, positions, lowest)
        if slots is None:
            whole = cache.attention(len(positions), self.visible, rows=rows, positions=positions)
            return history.sparse.over(index, whole, self.progress)
        return PartialHistory(cache, self.visible, rows, slots, positions)
