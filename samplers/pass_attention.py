"""What the latent frames of one pass may attend to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from ..attention.history import HistoryCache
from ..attention.layout import HistoryReader, key_reader
from ..attention.projected import MatricesOf, ProjectedAttention, ReadFrames
from ..attention.views import LimitedLookback, SplitFrames, SplitRows, part_of
from ..model.dit import SelfAttention
from .history.extent import HistoryExtent, extent
from .history.reads import numbers_by_slot, shown_numbers
from .history.rollout_history import RolloutHistory
from .history.selection import CacheView, neighbours
from .history.state_reading import StateOfRows, state_of_views
from .rules.reading import ReadingMoment, ReadingRule


@dataclass(frozen=True, slots=True)
class ChunkReading:
    """How the `frames` of a pass, all of one chunk, read the history.

    The chunk begins `offset` latent frames after the first active one.
    """

    frames: range
    offset: int
    moment: ReadingMoment
    rules: Sequence[ReadingRule]

    def over(self, attention: HistoryReader, ends: HistoryExtent) -> HistoryReader:
        """The attention of these frames to a history with those `ends`, under the rules."""
        return ends.weigh(attention, self.rules, self.moment, self.frames, self.offset)


@dataclass(frozen=True, slots=True)
class PassVisibility:
    """How far the latent frames of a pass look, in the pass's order.

    `visible` counts, from the front, the frames of the pass that each frame sees. `offsets` are the
    frames' places and `lowest` the first place that each may look at; both count from the first
    active frame. `lowest` is empty where the schedule sets no bound. `progress` is the share of
    its steps that each frame has behind it. `readings` divide the frames by chunk where rules say
    how they read the history; empty reads it as it is.
    """

    visible: Sequence[int]
    offsets: Sequence[int]
    lowest: Sequence[int]
    progress: Sequence[float]
    readings: Sequence[ChunkReading] = ()

    def attention_for(self, views: Sequence[CacheView], history: RolloutHistory) -> SelfAttention:
        """The attention of all `views` in one pass, neighbouring cache rows together."""
        parts = [(len(run), self._attention_of(run, history)) for run in neighbours(views)]
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
            return self._ruled(run[0], whole, history, sparse=True)
        part = part_of(cache, self.visible, rows, slots, positions)
        return self._ruled(run[0], part, history, sparse=False)

    def _ruled(
        self, view: CacheView, attention: SelfAttention, history: RolloutHistory, *, sparse: bool
    ) -> SelfAttention:
        """The attention of each chunk under its rules, `sparse` as the history is."""
        if not self.readings:
            return (
                history.sparse.over(view.cache, attention, self.progress) if sparse else attention
            )
        cache, plan = history.caches[view.cache], history.plans[view.cache]
        missing = view.position - cache.next_position
        ends = extent(plan, cache, history.sink_frames, missing)
        ends = replace(ends, counts=history.key_counts[view.cache])
        parts: list[SelfAttention] = []
        for reading in self.readings:
            frames = reading.frames
            ruled = reading.over(key_reader(attention), ends)
            progress = self.progress[frames.start : frames.stop]
            parts.append(history.sparse.over(view.cache, ruled, progress) if sparse else ruled)
        return parts[0] if len(parts) == 1 else SplitFrames(parts)


@dataclass(frozen=True, slots=True)
class ViewReader:
    """What `views` of the history give modules in a pass over `active` latent frames.

    Active frame i sees the first `visible[i]` active ones.
    """

    views: Sequence[CacheView]
    history: RolloutHistory
    active: Sequence[int]
    visible: Sequence[int]

    def runs(self) -> list[tuple[int, ReadFrames]]:
        """The reads of the pass's batch rows, neighbouring cache rows together."""
        return [(len(run), self._read(run)) for run in neighbours(self.views)]

    def __call__(self, matrices: MatricesOf) -> SelfAttention:
        """Open the second attention, for the pass's batch rows in order."""
        parts = [(count, ProjectedAttention(reads, matrices)) for count, reads in self.runs()]
        return parts[0][1] if len(parts) == 1 else SplitRows(parts)

    def state(self) -> StateOfRows | None:
        """The states beside the histories of the pass's batch rows."""
        return state_of_views(self.views, self.history.caches)

    def _read(self, run: Sequence[CacheView]) -> ReadFrames:
        first, history = run[0], self.history
        cache, plan = history.caches[first.cache], history.plans[first.cache]
        shown = shown_numbers(plan, history.frames, history.sink_frames)
        slots = range(len(cache.kept_frames)) if first.slots is None else first.slots
        numbers = numbers_by_slot(cache, shown) if slots else []
        past = tuple(numbers[slot] for slot in slots)
        rows = slice(first.row, first.row + len(run))
        active, visible = tuple(self.active), tuple(self.visible)
        return ReadFrames(cache, rows, tuple(slots), past, active, visible)
