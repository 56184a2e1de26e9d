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
from fractions import Fraction
from typing import Literal, Protocol

from ...errors import BadInput
from .levels import Ladder, check_ladder
from .row import Row, RowPart
from .timing import ROUNDING, Timing

Visibility = Literal["bidirectional", "block-causal"]
"""Which active latent frames a frame sees: all, or those of its own and earlier chunks."""

MAX_CHUNK_FRAMES = 8
MIN_LAG = 0.01
MAX_REPEAT = 100


class NoiseSchedule(Protocol):
    """What the sampling loop needs of a schedule.

    Latent frames before `origin` are given; chunks are counted from `chunk_base`.
    """

    @property
    def chunk_frames(self) -> int:
        """The number of latent frames that start and finish together."""

    def chunk_base(self, origin: int) -> int:
        """The latent frame that every chunk begins a whole number of chunks after.

        The first one begins at `origin` and may be shorter: the base is then before it, perhaps
        below 0.
        """

    def active_stop(self, first: int, length: int | None, origin: int = 0) -> int:
        """The latent frame after those that may be active while chunk `first` leads."""

    def active_frames(self, length: int | None, origin: int = 0) -> int:
        """The maximum number of latent frames that are active at once."""

    def before_two_finishes(self, length: int, origin: int = 0) -> int:
        """A latent frame near the end, from which on rows finish latent frames twice or more.

        It is `origin` if no later one does.
        """

    def chunks_in_turn(self, length: int, origin: int = 0) -> int | None:
        """The generated chunks, if each is clean in a row of its own, else None."""

    def rows(self, first: int, length: int | None, origin: int = 0) -> Iterator[Row]:
        """The rows whose first unfinished latent frame is `first` or later.

        `length` None has no end.
        """

    def row_parts(self, first: int, length: int | None, origin: int = 0) -> Iterator[list[RowPart]]:
        """The same rows, in parts of the same step: few, however many frames are active."""

    @property
    def started_frames(self) -> int:
        """The maximum number of latent frames in a front of chunks that have started."""

    @property
    def repeats_after(self) -> int:
        """The number of chunks after which rows are the same again, a whole row later or more.

        It is at most 100: stranger fractions of a row between chunks count as hundredths.
        """

    def visible(self, frames: range, origin: int = 0) -> tuple[int, ...]:
        """For each of the active `frames`, how many of them, from the front, it sees."""


@dataclass(frozen=True, slots=True)
class StaggeredSchedule:
    """Every chunk starts `lag` rows after the one before it, or when that is clean.

    `lag` 0 makes all chunks together; `mirrored` starts at both ends and works inwards.
    `first_ladder` gives the first chunk, which has no history, its own steps, `first_frames` its
    own number of latent frames (0: as many as every chunk). Both are for shots that begin with
    nothing given.

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
    first_frames: int = 0

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
                f"A chunk must start together with the one before it (0) or {MIN_LAG} or more "
                f"steps after it; got {self.lag}."
            )
        if any(chunks < 1 for chunks in self.reach):
            raise BadInput(f"A chunk looks at one chunk or more, its own; got {self.reach}.")
        object.__setattr__(self, "lag", min(self.lag, len(self.ladder) - 1.0))
        self._check_first_frames()

    def _check_first_frames(self) -> None:
        """Refuse a first chunk that is too long, or shorter and clean together with others."""
        if not 0 <= self.first_frames <= self.chunk_frames:
            raise BadInput(
                f"The first chunk can have at most the {self.chunk_frames} latent frames of every "
                f"chunk; got {self.first_frames}."
            )
        if self.first_frames == self.chunk_frames:
            object.__setattr__(self, "first_frames", 0)
        if self.first_frames and not self._in_turn:
            raise BadInput(
                "A first chunk of fewer latent frames needs chunks that are clean one after "
                "another; make all chunks of one size."
            )

    @property
    def _in_turn(self) -> bool:
        """Whether no two chunks are clean in one row."""
        return not self.mirrored and self.lag >= 1

    def chunk_base(self, origin: int) -> int:
        """The origin, or where a shorter first chunk would begin as a whole one."""
        if origin or not self.first_frames:
            return origin
        return self.first_frames - self.chunk_frames

    def active_stop(self, first: int, length: int | None, origin: int = 0) -> int:
        """The end of the chunks that start before the one of `first` is clean."""
        if length is not None and (self.mirrored or self.lag == 0):
            return length
        self._check_length(length)
        base, size = self.chunk_base(origin), self.chunk_frames
        together = math.ceil((len(self.ladder) - 1 - ROUNDING) / self.lag)
        stop = base + ((first - base) // size + together) * size
        return stop if length is None else min(stop, length)

    def active_frames(self, length: int | None, origin: int = 0) -> int:
        """The frames of all chunks that start before the first or the second one is clean."""
        second = self.chunk_base(origin) + self.chunk_frames
        return max(self.active_stop(at, length, origin) - at for at in (origin, second))

    @property
    def started_frames(self) -> int:
        """The frames of all chunks that start before the first one is clean; 0 for a lag of 0."""
        steps = max(len(self.ladder), len(self.first_ladder)) - 1
        return self.chunk_frames * math.ceil((steps - ROUNDING) / self.lag) if self.lag else 0

    @property
    def repeats_after(self) -> int:
        """The chunks that start a whole number of rows apart."""
        return Fraction(self.lag).limit_denominator(MAX_REPEAT).denominator

    def before_two_finishes(self, length: int, origin: int = 0) -> int:
        """Before the chunks that start together last, and those before them."""
        if not self.lag:
            return origin
        base = self.chunk_base(origin)
        last = (length - base - 1) // self.chunk_frames
        if self.mirrored:
            last //= 2  # the middle is clean last
        together = math.ceil(1 / self.lag)
        return max(origin, base + max(0, last - 2 * together - 1) * self.chunk_frames)

    def chunks_in_turn(self, length: int, origin: int = 0) -> int | None:
        """The chunks from `origin` to `length`, unless some of them are clean in one row."""
        return Timing(self, origin, length).chunks if self._in_turn else None

    def rows(self, first: int, length: int | None, origin: int = 0) -> Iterator[Row]:
        """One step a row for every chunk that has started and is not clean."""
        timing, front = self._timing(first, length, origin)
        yield from (timing.row(*at) for at in timing.walk(front))

    def row_parts(self, first: int, length: int | None, origin: int = 0) -> Iterator[list[RowPart]]:
        """The same rows, a part for chunks that start together and take the same ladder."""
        timing, front = self._timing(first, length, origin)
        yield from (timing.parts(*at) for at in timing.walk(front))

    def _timing(self, first: int, length: int | None, origin: int) -> tuple[Timing, int]:
        """The times of all chunks, and the first chunk that begins at `first` or later."""
        self._check_length(length)
        front = -(-(first - self.chunk_base(origin)) // self.chunk_frames)
        return Timing(self, origin, length), front if first > origin else 0

    def visible(self, frames: range, origin: int = 0) -> tuple[int, ...]:
        """All active frames, or those of the frame's own and earlier chunks."""
        if self.visibility == "bidirectional":
            return (len(frames),) * len(frames)
        chunk, base = self.chunk_frames, self.chunk_base(origin)
        ends = ((f - base) // chunk * chunk + chunk + base for f in frames)
        return tuple(min(end, frames.stop) - frames.start for end in ends)

    def _check_length(self, length: int | None) -> None:
        if length is None and (self.mirrored or self.lag == 0):
            raise BadInput(
                "This schedule makes all latent frames together, so it cannot run without an end; "
                "give the shot a length, or choose another schedule."
            )


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
