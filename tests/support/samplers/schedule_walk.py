"""The rows of a staggered schedule, walked row by row and chunk by chunk from the beginning."""

from __future__ import annotations

from collections.abc import Iterator

from longtake.samplers.schedule.row import Row
from longtake.samplers.schedule.rows import StaggeredSchedule


def walk_rows(
    schedule: StaggeredSchedule, first: int, length: int | None, origin: int = 0
) -> Iterator[Row]:
    """What `StaggeredSchedule.rows` must yield; it takes as long as the shot is."""
    walk = _Walk(schedule, length, origin)
    front = row = 0
    while walk.exists(front):
        row = max(row, walk.start(front))
        if walk.begin(front) >= first:
            yield walk.row(front, row)
        row += 1
        while walk.exists(front) and walk.start(front) + walk.steps(front) <= row:
            front += 1


class _Walk:
    def __init__(self, schedule: StaggeredSchedule, length: int | None, origin: int) -> None:
        self.schedule, self.length, self.origin = schedule, length, origin

    def exists(self, chunk: int) -> bool:
        return self.length is None or self.begin(chunk) < self.length

    def begin(self, chunk: int) -> int:
        first = self.origin
        for number in range(chunk):
            fewer = self.schedule.first_frames if number == self.origin == 0 else 0
            first += fewer or self.schedule.chunk_frames
        return first

    def ladder(self, chunk: int) -> tuple[float, ...]:
        opening = self.schedule.first_ladder
        return opening if opening and chunk == self.origin == 0 else self.schedule.ladder

    def steps(self, chunk: int) -> int:
        return len(self.ladder(chunk)) - 1

    def start(self, chunk: int) -> int:
        schedule = self.schedule
        if schedule.mirrored and self.length is not None:
            count = next(i for i in range(self.length + 1) if not self.exists(i))
            chunk = min(chunk, count - 1 - chunk)
        late = int(chunk * schedule.lag + 1e-9)
        if not schedule.first_ladder or self.origin or chunk == 0:
            return late
        longer = len(schedule.first_ladder) - len(schedule.ladder)
        return late + max(longer, -int(schedule.lag + 1e-9))

    def row(self, front: int, row: int) -> Row:
        frames = list[tuple[float, float, int, int, int]]()
        chunk = front
        while self.exists(chunk):
            if chunk > front and self.start(chunk) > row and not self.schedule.mirrored:
                break
            ladder, taken, steps = self.ladder(chunk), row - self.start(chunk), self.steps(chunk)
            step, below = (min(max(at, 0), steps) for at in (taken, taken + 1))
            first, stop = self.begin(chunk), self.begin(chunk + 1)
            count = (stop if self.length is None else min(stop, self.length)) - first
            reach = self.schedule.reach or (chunk + 1,)
            back = reach[min(step * len(reach) // steps, len(reach) - 1)] - 1
            lowest = self.begin(1) + (chunk - back - 1) * self.schedule.chunk_frames
            frames += [(ladder[step], ladder[below], step, steps, lowest)] * count
            chunk += 1
        now, after, taken_steps, of_steps, lowest_places = zip(*frames, strict=True)
        seen = lowest_places if self.schedule.reach else ()
        return Row(self.begin(front), now, after, taken_steps, of_steps, seen)
