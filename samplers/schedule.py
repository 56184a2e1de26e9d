"""Noise-level schedules as data: rows of (which latent frames are active, their level now, their
level next).

A level is the flow noise fraction sigma in [0, 1]: x = (1 - sigma) clean + sigma noise. Causal
chunks, pyramid and full sequence differ only in their rows (Diffusion Forcing, arXiv 2407.01392,
scheduling matrices K); one sampling loop serves them all.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from ..errors import BadInput

Ladder = tuple[float, ...]
"""Levels from 1 (pure noise) down to 0 (clean), strictly decreasing.

One more than the number of steps.
"""


@dataclass(frozen=True, slots=True)
class Row:
    """One step: the active latent frames from `first` on, their levels now and after it, and their
    step numbers.

    A frame whose level does not change takes part in attention and is returned untouched.
    """

    first: int
    now: tuple[float, ...]
    after: tuple[float, ...]
    steps: tuple[int, ...]

    @property
    def finished(self) -> int:
        """How many frames at the front are clean after this row, and so leave the active set."""
        return next((i for i, level in enumerate(self.after) if level > 0), len(self.after))


class NoiseSchedule(Protocol):
    """What the sampling loop needs of a schedule."""

    @property
    def active_frames(self) -> int:
        """The most latent frames that are active at once."""

    def rows(self, first: int, length: int | None) -> Iterator[Row]:
        """Rows from latent frame `first`, where one `can_start`, to `length` (None: for ever)."""

    def can_start(self, frame: int) -> bool:
        """Whether all latent frames before `frame` are clean when it becomes active."""


def shifted(sigma: float, shift: float) -> float:
    """The flow time shift: s sigma / (1 + (s - 1) sigma)."""
    return shift * sigma / (shift * sigma + (1 - sigma))  # written so that 1 stays exactly 1


def flow_ladder(steps: int, shift: float) -> Ladder:
    """`steps` equal steps from 1 to 0, then shifted."""
    if steps < 1:
        raise BadInput(f"steps must be at least 1; got {steps}.")
    if not 0 < shift < float("inf"):
        raise BadInput(f"shift must be a positive number; got {shift}.")
    return tuple(shifted(1 - i / steps, shift) for i in range(steps + 1))


def few_step_ladder(timesteps: tuple[float, ...], shift: float) -> Ladder:
    """The distilled family's list of un-warped timesteps (1000, 750, ...) as levels, shifted, with
    the final 0.
    """
    return (*(shifted(t / 1000, shift) for t in timesteps), 0.0)


@dataclass(frozen=True, slots=True)
class CausalChunks:
    """Chunks one after another, all latent frames of a chunk at one level.

    `chunk_frames` = 1 is autoregressive.
    """

    ladder: Ladder
    chunk_frames: int = 3

    def __post_init__(self) -> None:
        check_ladder(self.ladder)
        if not 1 <= self.chunk_frames <= 8:
            raise BadInput(
                f"chunk_frames must be from 1 to 8 latent frames; got {self.chunk_frames}."
            )

    @property
    def active_frames(self) -> int:
        """One chunk."""
        return self.chunk_frames

    def can_start(self, frame: int) -> bool:
        """Chunks never overlap, so at every chunk's first frame."""
        return True

    def rows(self, first: int, length: int | None) -> Iterator[Row]:
        """Rows of every chunk from the one that starts at `first`.

        The last chunk may be shorter.
        """
        while length is None or first < length:
            count = self.chunk_frames if length is None else min(self.chunk_frames, length - first)
            for step, (now, after) in enumerate(zip(self.ladder, self.ladder[1:], strict=False)):
                yield Row(first, (now,) * count, (after,) * count, (step,) * count)
            first += count


@dataclass(frozen=True, slots=True)
class Matrix:
    """A finite schedule given whole.

    `indices[m][t]` is how many steps frame t still has to go before row m.
    """

    ladder: Ladder
    indices: tuple[tuple[int, ...], ...]

    def __post_init__(self) -> None:
        check_ladder(self.ladder)
        steps = len(self.ladder) - 1
        if any(index != 0 for index in self.indices[-1]) or any(
            index != steps for index in self.indices[0][-1:]
        ):
            raise ValueError(
                "a noise-level matrix starts at pure noise and ends with every latent frame clean"
            )
        for before, after in zip(self.indices, self.indices[1:], strict=False):
            if any(not 0 <= b - a <= 1 for b, a in zip(before, after, strict=True)):
                raise ValueError(
                    "a latent frame takes at most one step a row, and never goes back to more noise"
                )

    @property
    def active_frames(self) -> int:
        """The widest row."""
        return max(len(row.now) for row in self.rows(0, len(self.indices[0])))

    def can_start(self, frame: int) -> bool:
        """Whether no row has active frames on both sides of `frame`."""
        return not any(row.first < frame < row.first + len(row.now) for row in self.rows(0, None))

    def rows(self, first: int, length: int | None) -> Iterator[Row]:
        """Rows that still change a frame at or after `first`; `length` must be the matrix's own."""
        frames, steps = len(self.indices[0]), len(self.ladder) - 1
        if length not in (None, frames):
            raise BadInput(
                f"this schedule is made for {frames} latent frames; got a length of {length}."
            )
        for before, after in zip(self.indices, self.indices[1:], strict=False):
            changing = [t for t in range(first, frames) if before[t] != after[t]]
            if not changing:
                continue
            low = min(t for t in range(first, frames) if before[t] > 0)
            started = [t for t in range(low, frames) if after[t] < steps]
            part = range(low, started[-1] + 1)
            yield Row(
                low,
                tuple(self.ladder[steps - before[t]] for t in part),
                tuple(self.ladder[steps - after[t]] for t in part),
                tuple(steps - before[t] for t in part),
            )


def full_sequence(ladder: Ladder, frames: int) -> Matrix:
    """All latent frames together, K[m, t] = S - m."""
    steps = len(ladder) - 1
    return Matrix(ladder, tuple((steps - m,) * frames for m in range(steps + 1)))


def pyramid(ladder: Ladder, frames: int, uncertainty: float = 1.0) -> Matrix:
    """Later frames lag behind: K[m, t] = clip(S + int(t u) - m, 0, S); u = S is frame-by-frame."""
    steps = len(ladder) - 1
    rows = steps + int((frames - 1) * uncertainty) + 1
    return Matrix(
        ladder,
        tuple(
            tuple(min(max(steps + int(t * uncertainty) - m, 0), steps) for t in range(frames))
            for m in range(rows)
        ),
    )


def check_ladder(ladder: Ladder) -> None:
    """A ladder falls strictly from 1 to 0."""
    falling = all(b < a for a, b in zip(ladder, ladder[1:], strict=False))
    if len(ladder) < 2 or ladder[0] != 1.0 or ladder[-1] != 0.0 or not falling:
        raise BadInput(f"noise levels must fall strictly from 1 to 0; got {ladder}.")
