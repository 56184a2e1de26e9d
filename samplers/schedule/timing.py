"""When the chunks of a staggered schedule start and end, in closed form."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Protocol

from .levels import Ladder
from .row import Row, RowPart

ROUNDING = 1e-9  # 3 x (5 / 3) is 5


class Staggering(Protocol):
    """What decides when chunks start and end; see `StaggeredSchedule`."""

    @property
    def ladder(self) -> Ladder:
        """The levels of a chunk."""

    @property
    def first_ladder(self) -> Ladder:
        """The levels of the first chunk, empty for those of every chunk."""

    @property
    def chunk_frames(self) -> int:
        """Latent frames of a chunk."""

    def chunk_base(self, origin: int) -> int:
        """The latent frame that every chunk begins a whole number of chunks after."""

    @property
    def lag(self) -> float:
        """Rows between the starts of two chunks."""

    @property
    def mirrored(self) -> bool:
        """Whether both ends start first."""

    @property
    def reach(self) -> tuple[int, ...]:
        """How many chunks back a chunk looks, in equal parts of its steps."""


class Timing:
    """The rows in which each chunk of one rollout starts and ends."""

    def __init__(self, schedule: Staggering, origin: int, length: int | None) -> None:
        self.schedule, self.origin, self.length = schedule, origin, length
        self.opening = schedule.first_ladder if schedule.first_ladder and not origin else ()
        self.base = schedule.chunk_base(origin)
        self.chunks = None if length is None else -(-(length - self.base) // schedule.chunk_frames)
        if length is not None and length <= origin:
            self.chunks = 0  # also where the base is before the origin

    def begin(self, chunk: int) -> int:
        """The first latent frame of a chunk."""
        return max(self.origin, self.base + chunk * self.schedule.chunk_frames)

    def exists(self, chunk: int) -> bool:
        return self.chunks is None or chunk < self.chunks

    def ladder(self, chunk: int) -> Ladder:
        return self.opening if self.opening and chunk == 0 else self.schedule.ladder

    def start(self, chunk: int) -> int:
        if self.schedule.mirrored and self.chunks is not None:
            chunk = min(chunk, self.chunks - 1 - chunk)
        if not self.opening or chunk == 0:
            return self.lag_by(chunk)
        longer = len(self.opening) - len(self.schedule.ladder)
        return self.lag_by(chunk) + max(longer, -self.lag_by(1))

    def end(self, chunk: int) -> int:
        """The row after which the chunk is clean, plus one."""
        return self.start(chunk) + len(self.ladder(chunk)) - 1

    def end_of_all(self, chunks: int) -> int:
        """The row after which the first `chunks` are clean, plus one."""
        if not chunks:
            return 0
        last = chunks - 1
        if self.schedule.mirrored and self.chunks is not None:
            last = min(last, (self.chunks - 1) // 2)  # the middle is clean last
        return self.end(last)

    def first_unfinished(self, chunk: int, row: int) -> int:
        """The first chunk, from `chunk` on, that is not clean before `row`."""
        while self.exists(chunk) and self.end(chunk) <= row:
            chunk = self.chunks_alike(chunk)
        return chunk

    def walk(self, front: int) -> Iterator[tuple[int, int]]:
        """The rows from the one in which chunk `front`, or the next one that does, leads.

        Each is the first chunk that is not clean, and the number of the row.
        """
        row = self.end_of_all(front)
        front = self.first_unfinished(front, row)
        while self.exists(front):
            row = max(row, self.start(front))
            yield front, row
            row += 1
            front = self.first_unfinished(front, row)

    def row(self, front: int, row: int) -> Row:
        """Row number `row`; chunk `front` is the first that is not clean."""
        now, after, lowest = list[float](), list[float](), list[int]()
        steps, of_steps = list[int](), list[int]()
        for part in self.parts(front, row):
            count = len(part.frames)
            now += [part.now] * count
            after += [part.after] * count
            steps += [part.step] * count
            of_steps += [part.of_steps] * count
            lowest += self._lowest_of(part)
        numbers = tuple(steps), tuple(of_steps)
        return Row(self.begin(front), tuple(now), tuple(after), *numbers, tuple(lowest))

    def parts(self, front: int, row: int) -> list[RowPart]:
        """The latent frames of a row, those together that take the same step."""
        parts = list[RowPart]()
        for chunks in self.runs(front, row):
            ladder, steps_done = self.ladder(chunks.start), row - self.start(chunks.start)
            step = min(max(steps_done, 0), len(ladder) - 1)
            below = min(max(steps_done + 1, 0), len(ladder) - 1)
            frames = self.frames(chunks)
            parts.append(RowPart(frames, ladder[step], ladder[below], step, len(ladder) - 1))
        return parts

    def _lowest_of(self, part: RowPart) -> list[int]:
        """The first latent frame that each of a part may look at; empty without a bound."""
        if not self.schedule.reach:
            return []
        chunks = ((frame - self.base) // self.schedule.chunk_frames for frame in part.frames)
        return [self.lowest(chunk, part.step, part.of_steps) for chunk in chunks]

    def runs(self, front: int, row: int) -> Iterator[range]:
        """The chunks active in `row`, in runs that start together and take the same ladder."""
        chunk = front
        while self.exists(chunk):
            waits = self.start(chunk) > row
            if waits and chunk > front and not self.schedule.mirrored:
                return
            if self.chunks is not None and self.end(chunk) <= row:
                stop = self.chunks  # the far end of a mirrored shot, clean before its middle
            else:
                stop = self.chunks_waiting(chunk) if waits else self.chunks_alike(chunk)
            yield range(chunk, stop)
            chunk = stop

    def chunks_alike(self, chunk: int) -> int:
        """The chunk after the last one of a run, from `chunk` on, that starts with it."""
        if self.opening and chunk == 0:
            return 1
        if self.schedule.mirrored and self.chunks is not None and chunk >= self.chunks / 2:
            mirrored = self.chunks - 1 - chunk
            first = self.first_with_lag_of(mirrored)
            return self.chunks - (1 if self.opening and first == 0 < mirrored else first)
        if self.chunks is not None and self.schedule.lag == 0:
            return self.chunks
        stop = self.first_later_than(chunk)
        if self.chunks is None:
            return stop
        return min(stop, -(-self.chunks // 2) if self.schedule.mirrored else self.chunks)

    def chunks_waiting(self, chunk: int) -> int:
        """The chunk after the ones that wait as `chunk` does, in the middle of a mirrored shot."""
        if not self.schedule.mirrored or self.chunks is None:
            return chunk + 1
        return max(chunk + 1, self.chunks - chunk)

    def lag_by(self, chunks: int) -> int:
        """Rows between the starts of the first chunk and of the one `chunks` after it."""
        return int(chunks * self.schedule.lag + ROUNDING)

    def first_later_than(self, chunk: int) -> int:
        """The first chunk that starts in a later row than `chunk`; the lag is not 0."""
        later = math.ceil((self.lag_by(chunk) + 1) / self.schedule.lag)
        return later - 1 if self.lag_by(later - 1) > self.lag_by(chunk) else later

    def first_with_lag_of(self, chunk: int) -> int:
        """The first chunk that starts in the row of `chunk`."""
        if self.schedule.lag == 0:
            return 0
        first = math.ceil(self.lag_by(chunk) / self.schedule.lag)
        return first - 1 if first and self.lag_by(first - 1) == self.lag_by(chunk) else first

    def frames(self, chunks: range) -> range:
        """The latent frames of `chunks`."""
        first, stop = self.begin(chunks.start), self.begin(chunks.stop)
        return range(first, stop if self.length is None else min(stop, self.length))

    def lowest(self, chunk: int, step: int, steps: int) -> int:
        """The first latent frame that a chunk may look at before one of its steps."""
        reach = self.schedule.reach or (chunk + 1,)
        back = reach[min(step * len(reach) // steps, len(reach) - 1)] - 1
        return self.base + (chunk - back) * self.schedule.chunk_frames
