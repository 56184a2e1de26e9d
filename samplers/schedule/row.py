"""A row of a noise-level schedule: one step of all active latent frames."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class RowPart:
    """Neighbouring active latent `frames` of a row that take the same step, as `Row` says it."""

    frames: range
    now: float
    after: float
    step: int
    of_steps: int


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
