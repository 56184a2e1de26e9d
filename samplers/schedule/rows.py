"""Noise-level schedules as data: rows of active latent frames with levels now and next.

Latent frames come in chunks. Each chunk goes down a ladder of levels, one step a row, and starts
`lag` rows after the chunk before it. That number alone makes causal chunks, pyramid, trapezoid and
full sequence (Diffusion Forcing, arXiv 2407.01392), the asynchronous matrix (SkyReels-V2, arXiv
2504.13074), the joint window (Rolling Forcing, arXiv 2509.25161) and the chunk pipeline (MAGI-1,
arXiv 2505.13211).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, Protocol

from ...errors import BadInput
from .levels import Ladder, check_ladder

Visibility = Literal["bidirectional", "block-causal"]
"""Which active latent frames a frame sees: all, or those of its own and earlier chunks."""

MAX_CHUNK_FRAMES = 8
MIN_LAG = 0.01
ROUNDING = 1e-9  # 3 x (5 / 3) is 5


@dataclass(frozen=True, slots=True)
class Row:
    """One step of the active latent frames from `first` on.

    `now` and `after` are their levels, `steps` their step numbers and `of_steps` their totals. A
    frame whose level does not change takes part in attention and is returned unchanged. `lowest` is
    the first latent frame that each may look at; empty sets no bound.
    """

    first: int
    now: tuple[float, ...]
    after: tuple[float, ...]
    steps: tuple[int, ...]
    of_steps: tuple[int, ...]
    lowest: tuple[int, ...] = ()

    @property
    def frames(self) -> range:
        """The active latent frames."""
        return range(self.first, self.first + len(self.now))

    @property
    def progress(self) -> list[float]:
        """The share of its steps that each frame has done."""
        return [step / steps for step, steps in zip(self.steps, self.of_steps, strict=True)]

    @property
    def finished(self) -> int:
        """The number of frames at the front that are clean after this row."""
        return next((i for i, level in enumerate(self.after) if level > 0), len(self.after))


class NoiseSchedule(Protocol):
    """What the sampling loop needs of a schedule.

    Latent frames before `origin` are given; chunks are counted from it.
    """

    @property
    def chunk_frames(self) -> int:
        """The number of latent frames that start and finish together."""

    def active_frames(self, length: int | None, origin: int = 0) -> int:
        """The maximum number of latent frames that are active at once."""

    def rows(self, first: int, length: int | None, origin: int = 0) -> Iterator[Row]:
        """The rows whose first unfinished latent frame is `first` or later.

        `length` None has no end.
        """

    def visible(self, frames: range, origin: int = 0) -> tuple[int, ...]:
        """For each of the active `frames`, how many of them, from the front, it sees."""


@dataclass(frozen=True, slots=True)
class StaggeredSchedule:
    """Every chunk starts `lag` rows after the one before it, or when that is clean.

    `lag` 0 makes all chunks together; `mirrored` starts at both ends and works inwards.
    `first_ladder` gives the first chunk, which has no history, its own steps.

    `reach` divides a chunk's steps, from noise to clean, into equal parts. Its entries say how many
    chunks back, its own included, the chunk looks in each part (MAGI-1's kv_range: 5, 4, 3, 2).
    Empty sets no bound.
    """

    ladder: Ladder
    chunk_frames: int = 3
    lag: float = math.inf
    first_ladder: Ladder = ()
    mirrored: bool = False
    visibility: Visibility = "bidirectional"
    reach: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        for ladder in (self.ladder, self.first_ladder or self.ladder):
            check_ladder(ladder)
        if not 1 <= self.chunk_frames <= MAX_CHUNK_FRAMES:
            raise BadInput(
                f"chunk_frames must be from 1 to {MAX_CHUNK_FRAMES} latent frames; "
                f"got {self.chunk_frames}."
            )
        if not (self.lag == 0 or self.lag >= MIN_LAG):
            raise BadInput(
                f"a chunk must start together with the one before it (0) or {MIN_LAG} or more "
                f"steps after it; got {self.lag}."
            )
        if any(chunks < 1 for chunks in self.reach):
            raise BadInput(f"a chunk looks at one chunk or more, its own; got {self.reach}.")
        object.__setattr__(self, "lag", min(self.lag, len(self.ladder) - 1.0))

    def active_frames(self, length: int | None, origin: int = 0) -> int:
        """The frames of all chunks that start before the first one is clean."""
        if length is not None and (self.mirrored or self.lag == 0):
            return length - origin
        self._check_length(length)
        frames = math.ceil((len(self.ladder) - 1 - ROUNDING) / self.lag) * self.chunk_frames
        return frames if length is None else min(frames, length - origin)

    def rows(self, first: int, length: int | None, origin: int = 0) -> Iterator[Row]:
        """One step a row for every chunk that has started and is not clean."""
        self._check_length(length)
        timing = _Timing(self, origin, length)
        front, row = 0, 0
        while timing.exists(front):
            row = max(row, timing.start(front))
            if origin + front * self.chunk_frames >= first:
                yield timing.row(front, row)
            row += 1
            while timing.exists(front) and timing.end(front) <= row:
                front += 1

    def visible(self, frames: range, origin: int = 0) -> tuple[int, ...]:
        """All active frames, or those of the frame's own and earlier chunks."""
        if self.visibility == "bidirectional":
            return (len(frames),) * len(frames)
        chunk = self.chunk_frames
        ends = ((f - origin) // chunk * chunk + chunk + origin for f in frames)
        return tuple(min(end, frames.stop) - frames.start for end in ends)

    def lag_by(self, chunks: int) -> int:
        """Rows between the starts of the first chunk and of the one `chunks` after it."""
        return int(chunks * self.lag + ROUNDING)

    def _check_length(self, length: int | None) -> None:
        if length is None and (self.mirrored or self.lag == 0):
            raise BadInput(
                "This schedule makes all latent frames together, so it cannot run without an end; "
                "give the shot a length, or choose another schedule."
            )


class _Timing:
    """The rows in which each chunk of one rollout starts and ends."""

    def __init__(self, schedule: StaggeredSchedule, origin: int, length: int | None) -> None:
        self.schedule, self.origin, self.length = schedule, origin, length
        self.opening = schedule.first_ladder if schedule.first_ladder and not origin else ()
        frames = None if length is None else length - origin
        self.chunks = None if frames is None else -(-frames // schedule.chunk_frames)

    def exists(self, chunk: int) -> bool:
        return self.chunks is None or chunk < self.chunks

    def ladder(self, chunk: int) -> Ladder:
        return self.opening if self.opening and chunk == 0 else self.schedule.ladder

    def start(self, chunk: int) -> int:
        if self.schedule.mirrored and self.chunks is not None:
            chunk = min(chunk, self.chunks - 1 - chunk)
        if not self.opening or chunk == 0:
            return self.schedule.lag_by(chunk)
        longer = len(self.opening) - len(self.schedule.ladder)
        return self.schedule.lag_by(chunk) + max(longer, -self.schedule.lag_by(1))

    def end(self, chunk: int) -> int:
        """The row after which the chunk is clean, plus one."""
        return self.start(chunk) + len(self.ladder(chunk)) - 1

    def row(self, front: int, row: int) -> Row:
        """Row number `row`; chunk `front` is the first that is not clean."""
        last = front
        while self.exists(last + 1) and (self.schedule.mirrored or self.start(last + 1) <= row):
            last += 1
        now, after, lowest = list[float](), list[float](), list[int]()
        steps, of_steps = list[int](), list[int]()
        size = self.schedule.chunk_frames
        for chunk in range(front, last + 1):
            ladder, steps_done = self.ladder(chunk), row - self.start(chunk)
            step = min(max(steps_done, 0), len(ladder) - 1)
            below = min(max(steps_done + 1, 0), len(ladder) - 1)
            left = size if self.length is None else self.length - self.origin - chunk * size
            frames = min(size, left)
            now += [ladder[step]] * frames
            after += [ladder[below]] * frames
            steps += [step] * frames
            of_steps += [len(ladder) - 1] * frames
            lowest += [self.lowest(chunk, step, len(ladder) - 1)] * frames
        seen = tuple(lowest) if self.schedule.reach else ()
        numbers = tuple(steps), tuple(of_steps)
        return Row(self.origin + front * size, tuple(now), tuple(after), *numbers, seen)

    def lowest(self, chunk: int, step: int, steps: int) -> int:
        """The first latent frame that a chunk may look at before one of its steps."""
        reach = self.schedule.reach or (chunk + 1,)
        back = reach[min(step * len(reach) // steps, len(reach) - 1)] - 1
        return self.origin + (chunk - back) * self.schedule.chunk_frames


def causal_chunks(
    ladder: Ladder, chunk_frames: int = 3, first_ladder: Ladder = ()
) -> StaggeredSchedule:
    """Chunks one after another; `chunk_frames` = 1 is frame by frame."""
    return StaggeredSchedule(ladder, chunk_frames, first_ladder=first_ladder)


def full_sequence(ladder: Ladder) -> StaggeredSchedule:
    """All latent frames together: K[m, t] = S - m."""
    return StaggeredSchedule(ladder, 1, lag=0)


def pyramid(ladder: Ladder, uncertainty: float = 1.0) -> StaggeredSchedule:
    """Later frames lag behind: K[m, t] = clip(S + int(t u) - m, 0, S); u = S is frame by frame."""
    return StaggeredSchedule(ladder, 1, uncertainty)


def trapezoid(ladder: Ladder, uncertainty: float = 1.0) -> StaggeredSchedule:
    """Both ends first: K[m, t] = K[m, -1 - t] = clip(S + int(t u) - m, 0, S).

    The published code mirrors to column -t, which fills column 0 twice, and ends a row early.
    """
    return StaggeredSchedule(ladder, 1, uncertainty, mirrored=True)


def asynchronous(ladder: Ladder, chunk_frames: int, ar_step: int) -> StaggeredSchedule:
    """SkyReels-V2's matrix: every causal block lags `ar_step` steps behind its left neighbour."""
    return StaggeredSchedule(ladder, chunk_frames, ar_step, visibility="block-causal")


def rolling(ladder: Ladder, chunk_frames: int = 3) -> StaggeredSchedule:
    """Rolling Forcing's joint window: as many chunks as steps, each one step apart."""
    return StaggeredSchedule(ladder, chunk_frames, 1)


def pipeline(ladder: Ladder, chunk_frames: int, in_flight: int) -> StaggeredSchedule:
    """MAGI-1's pipeline: `in_flight` chunks at once, spread evenly over the steps."""
    if not 1 <= in_flight <= len(ladder) - 1:
        raise BadInput(
            f"From 1 to {len(ladder) - 1} chunks can be in flight, as many as there are steps; "
            f"got {in_flight}."
        )
    return StaggeredSchedule(
        ladder, chunk_frames, (len(ladder) - 1) / in_flight, visibility="block-causal"
    )
