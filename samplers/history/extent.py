"""Where a cache's history ends, in the numbers that the cache gives its frames."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from ...attention.cache.part_keys import read_part
from ...attention.history import HistoryCache
from ...attention.layout import HistoryReader
from ...attention.readable import KeyCounts
from ...attention.weights import WeightedHistory
from ..guidance import AgeRange
from ..rules.reading import ReadingMoment, ReadingRule, RuledFrames
from .plan import CachePlan


@dataclass(frozen=True, slots=True)
class HistoryExtent:
    """The history of a cache: it ends before `next_frame` and begins with `sink_frames`.

    `counts` holds how many keys are read, until the history changes.
    """

    next_frame: int
    sink_frames: int
    layers: int
    counts: KeyCounts = field(default_factory=KeyCounts)

    def weigh(
        self,
        attention: HistoryReader,
        rules: Sequence[ReadingRule],
        moment: ReadingMoment,
        frames: range,
        offset: int = 0,
    ) -> WeightedHistory:
        """The attention of active `frames` under `rules`; their chunk begins at `offset`."""
        follows = self.next_frame + offset
        weights = RuledFrames(rules, moment, follows, self.sink_frames, self.layers)
        part = read_part(attention, weights)
        return WeightedHistory(part, weights, frames.start, frames.stop, self.counts)


def extent(
    plan: CachePlan, cache: HistoryCache, sink_frames: int, missing: int = 0
) -> HistoryExtent:
    """The extent of a cache whose newest `missing` frames a view leaves out.

    A cache of frames of some ages has no sink.
    """
    sink = 0 if isinstance(plan.frames, AgeRange) else sink_frames
    return HistoryExtent(cache.next_frame + missing, sink, cache.shape.layers)
