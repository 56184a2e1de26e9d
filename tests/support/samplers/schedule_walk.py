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
        if origin + front * schedule.chunk_frames >= first:
            yield walk.row(front, row)
        row += 1
        while walk.exists(front) and walk.start(front) + walk.steps(front) <= row:
            front += 1


class _Walk:
    def __init__(self, schedule: StaggeredSchedule, length: int | None, origin: int) -> None:
        self.schedule, self.length, self.origin = schedule, length, origin

    def exists(self, chunk: int) -> bool:
        first = self.origin + chunk * self.schedule.chunk_frames
        return self.length is None or first < self.length

    def ladder(self, chunk: int) -> tuple[float, ...]:
        opening = self.schedule.first_ladder
        return opening if opening and chunk == self.origin == 0 else self.schedule.ladder

    def steps(self, chunk: int) -> int:
        return len(self.ladder(chunk)) - 1

    def start(self, chunk: int) -> int:
        schedule = self.schedule
        if schedule.mirrored and self.length is not None:
            count = -(-(self.length - self.origin) // schedule.chunk_frames)
            chunk = min(chunk, count - 1 - chunk)
        late = int(chunk * schedule.lag + 1e-9)
        if not schedule.first_ladder or self.origin or chunk == 0:
            return late
        longer = len(schedule.first_ladder) - len(schedule.ladder)
        return late + max(longer, -int(schedule.lag + 1e-9))

    def row(self, front: int, row: int) -> Row:
        frames = list[tuple[float, float, int, int, int]]()
        size, chunk = self.schedule.chunk_frames, front
        while self.exists(chunk):
            if chunk > front and self.start(chunk) > row and not self.schedule.mirrored:
                break
            ladder, taken, steps = self.ladder(chunk), row - self.start(chunk), self.steps(chunk)
            step, below = (min(max(at, 0), steps) for at in (taken, taken + 1))
            left = size if self.length is None else self.length - self.origin - chunk * size
            reach = self.schedule.reach or (chunk + 1,)
            back = reach[min(step * len(reach) // steps, len(reach) - 1)] - 1
            lowest = self.origin + (chunk - back) * size
            frames += [(ladder[step], ladder[below], step, steps, lowest)] * min(size, left)
            chunk += 1
        now, after, taken_steps, of_steps, lowest_places = zip(*frames, strict=True)
        seen = lowest_places if self.schedule.reach else ()
        return Row(self.origin + front * size, now, after, taken_steps, of_steps, seen)
