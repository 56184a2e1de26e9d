"""A schedule given as a whole matrix: the loop's most general input, and a reference for all others
(Diffusion Forcing's scheduling matrices K, arXiv 2407.01392).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from hypothesis import strategies as st

from longtake.samplers.schedule.levels import Ladder, flow_ladder
from longtake.samplers.schedule.row import Row, RowPart
from longtake.samplers.schedule.rows import NoiseSchedule

Indices = tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class MatrixSchedule:
    """`indices[m][t]` is how many steps frame t still has to go before row m."""

    ladder: Ladder
    indices: Indices
    chunk_frames: int = 1

    def active_frames(self, length: int | None, origin: int = 0) -> int:
        return len(self.indices[0])

    def chunk_base(self, origin: int) -> int:
        return origin

    def active_stop(self, first: int, length: int | None, origin: int = 0) -> int:
        return first + len(self.indices[0])

    @property
    def started_frames(self) -> int:
        return len(self.indices[0])

    @property
    def repeats_after(self) -> int:
        return len(self.indices[0])

    def before_two_finishes(self, length: int, origin: int = 0) -> int:
        return origin

    def chunks_in_turn(self, length: int, origin: int = 0) -> int | None:
        return None

    def visible(self, frames: range, origin: int = 0) -> tuple[int, ...]:
        return (len(frames),) * len(frames)

    def rows(self, first: int, length: int | None, origin: int = 0) -> Iterator[Row]:
        """Frames from the first that is not clean to the last that has started."""
        steps, frames = len(self.ladder) - 1, range(len(self.indices[0]))
        for before, after in zip(self.indices, self.indices[1:], strict=False):
            if before == after:
                continue
            low = min(t for t in frames if before[t] > 0)
            part = range(low, 1 + max(t for t in frames if after[t] < steps))
            if low >= first:
                yield Row(
                    low,
                    tuple(self.ladder[steps - before[t]] for t in part),
                    tuple(self.ladder[steps - after[t]] for t in part),
                    tuple(steps - before[t] for t in part),
                    (steps,) * len(part),
                )

    def row_parts(self, first: int, length: int | None, origin: int = 0) -> Iterator[list[RowPart]]:
        for row in self.rows(first, length, origin):
            columns = row.now, row.after, row.steps, row.of_steps
            steps = zip(row.frames, *columns, strict=True)
            yield [RowPart(range(frame, frame + 1), *step) for frame, *step in steps]


@st.composite
def matrices(draw: st.DrawFn) -> MatrixSchedule:
    """Any order in which any frames take their steps."""
    steps, frames = draw(st.integers(1, 3)), draw(st.integers(1, 4))
    row, rows = [steps] * frames, [(steps,) * frames]
    while any(row):
        moved = draw(st.sets(st.sampled_from([t for t in range(frames) if row[t]]), min_size=1))
        row = [left - (t in moved) for t, left in enumerate(row)]
        rows.append(tuple(row))
    return MatrixSchedule(flow_ladder(steps, 2.0), tuple(rows))


def matrix_of(schedule: NoiseSchedule, length: int, steps: int, origin: int = 0) -> Indices:
    """The matrix that a schedule's rows walk through."""
    left = [0] * origin + [steps] * (length - origin)
    rows = [tuple(left)]
    for row in schedule.rows(origin, length, origin):
        for t, now, after, step in zip(row.frames, row.now, row.after, row.steps, strict=True):
            assert left[t] == steps - step
            left[t] -= now != after
        rows.append(tuple(left))
    return tuple(rows)
