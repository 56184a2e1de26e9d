"""The latent frames that a pass reads, by their numbers in the rollout.

A cache renumbers its frames when it is rebuilt, and pure noise has numbers of its own. In either
case the cache's frames, oldest first, stand for those of the history.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ...attention.history import HistoryCache
from ...attention.projected import MatricesOf, ProjectedAttention, ReadFrames
from .frames import HistoryFrames
from .plan import CachePlan
from .state_reading import StateOfRows, StateRows, state_of_cache


def shown_numbers(plan: CachePlan, frames: HistoryFrames, sink_frames: int) -> list[int]:
    """The latent frames that a cache shows once it is filled, oldest first."""
    numbers = frames.numbers
    if plan.fill_mode != "rebuilt":
        return numbers
    return [numbers[rank] for rank in plan.frames.ranks(numbers, sink_frames)]


def numbers_by_slot(cache: HistoryCache, shown: Sequence[int]) -> list[int]:
    """The latent frame in each slot of a cache that holds the first of the `shown` ones."""
    rank = {number: i for i, number in enumerate(sorted(cache.kept_frames))}
    return [shown[rank[number]] for number in cache.kept_frames]


@dataclass(frozen=True, slots=True)
class CommitReader:
    """What a pass that fills a cache with its next latent frames reads beside its attention."""

    plan: CachePlan
    cache: HistoryCache
    frames: HistoryFrames
    sink_frames: int
    visible: Sequence[int]

    def runs(self) -> list[tuple[int, ReadFrames]]:
        """The reads of all rows."""
        shown = self._shown()
        past = numbers_by_slot(self.cache, shown)
        active = shown[len(past) : len(past) + len(self.visible)]
        read = ReadFrames(
            self.cache, slice(None), tuple(range(len(past))), tuple(past), tuple(active),
            tuple(self.visible),
        )  # fmt: skip
        return [(len(self.plan.rows), read)]

    def __call__(self, matrices: MatricesOf) -> ProjectedAttention:
        """Open the attention of all rows."""
        return ProjectedAttention(self.runs()[0][1], matrices)

    def state(self) -> StateOfRows | None:
        """The state beside the cache, for all rows."""
        state = state_of_cache(self.cache)
        rows = len(self.plan.rows)
        return None if state is None else StateOfRows([StateRows(rows, state, slice(0, rows))])

    def _shown(self) -> Sequence[int]:
        """The latent frames that the cache shows once it is filled, oldest first.

        Noise keeps its own numbers while it is filled in: it outlives the frames that the history
        holds then, and a replay fills it in behind others.
        """
        if self.plan.fill_mode == "noise":
            return range(self.cache.next_frame + len(self.visible))
        return shown_numbers(self.plan, self.frames, self.sink_frames)
