"""The chunks in which a shot is made, and the steps that each of them takes.

Each is found by itself, however far into a shot, and without its latent frames one by one.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property

from ..history.steady_state import commit_start
from ..schedule.row import RowPart
from ..settings import RolloutSettings


@dataclass(frozen=True, slots=True)
class RowSteps:
    """The noise levels and step numbers in a row, each pair once, and whether it sees ahead."""

    at: tuple[tuple[float, int], ...]
    sees_ahead: bool


@dataclass(frozen=True)
class ChunkSteps:
    """Finds chunks and their steps by latent frame.

    Several chunks of the schedule may become clean in one row. They are one chunk here, as in a
    run. A chunk of given frames takes no steps.
    """

    settings: RolloutSettings
    _found: dict[int, int | None] = field(default_factory=dict)

    def of(self, first: int) -> list[RowSteps]:
        """The rows of the chunk that begins at latent frame `first`, where anything changes."""
        rows = [] if first < self.settings.origin else self._rows(first)
        return [self._steps(parts) for parts in rows if self._changes(parts)]

    def from_on(self, frame: int) -> int | None:
        """The first latent frame of the next chunk that begins at `frame` or later, if any."""
        s = self.settings
        if frame <= s.origin:
            first = s.next_chunk(max(0, frame))
            return None if s.length is not None and first >= s.length else first
        if frame not in self._found:
            row = next(s.schedule.row_parts(frame, s.length, s.origin), None)
            self._found[frame] = None if row is None else row[0].frames.start
        return self._found[frame]

    def holding(self, frame: int) -> int:
        """The first latent frame of the chunk that holds `frame`."""
        if self._last and frame >= self._last[0]:
            return max(first for first in self._last if first <= frame)
        first = commit_start(self.settings, frame)
        while (found := self.from_on(first)) is None or found > frame:
            first = commit_start(self.settings, first - 1)
        return found

    def before(self, first: int) -> Iterator[int]:
        """The first latent frames of the chunks before that of `first`, the newest first."""
        while first > 0:
            first = self.holding(first - 1)
            yield first

    @cached_property
    def in_work(self) -> int:
        """The latent frames of the chunks in work, at most; those that wait do not count."""
        return max(self.settings.schedule.started_frames, self.settings.schedule.chunk_frames)

    def near(self, frame: int, chunks_back: int = 0) -> list[int]:
        """The chunks around `frame`: those in which rows repeat before it and behind it, and more.

        It goes so many `chunks_back` further.
        """
        s, size = self.settings, self.settings.schedule.chunk_frames
        chunks = s.schedule.repeats_after
        middle = s.next_chunk(max(0, frame))
        found = (
            self.from_on(max(0, middle + more * size))
            for more in range(-chunks - chunks_back, chunks + 1)
        )
        return [first for first in found if first is not None]

    @property
    def last(self) -> list[int]:
        """The last chunks of all, where fewer latent frames are in work; empty without an end."""
        return self._last

    @cached_property
    def _last(self) -> list[int]:
        s = self.settings
        if s.length is None or s.length == s.origin:
            return []
        late = s.schedule.before_two_finishes(s.length, s.origin) - self.in_work
        rows = s.schedule.row_parts(max(late, s.origin), s.length, s.origin)
        return sorted({parts[0].frames.start for parts in rows})

    def _rows(self, first: int) -> Iterator[list[RowPart]]:
        """The rows until the latent frame `first` is clean."""
        s = self.settings
        for parts in s.schedule.row_parts(first, s.length, s.origin):
            yield parts
            if parts[0].after == 0:
                return

    def _changes(self, parts: list[RowPart]) -> bool:
        return any(now != after for part in parts for now, after in self._levels(part))

    def _steps(self, parts: list[RowPart]) -> RowSteps:
        pairs = dict.fromkeys((now, part.step) for part in parts for now, _ in self._levels(part))
        ahead = self.settings.known_frames.ahead(parts[-1].frames.stop)
        return RowSteps(tuple(pairs), sees_ahead=bool(ahead))

    def _levels(self, part: RowPart) -> set[tuple[float, float]]:
        """The levels now and next of a part, at which known frames are lower."""
        known = self.settings.known_frames.among(part.frames)
        limits = {frame.level for frame in known}
        if len(known) < len(part.frames):
            limits.add(part.now)
        return {(min(part.now, limit), min(part.after, limit)) for limit in limits}
