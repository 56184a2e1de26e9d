"""How strongly a control video acts over time."""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

from ...errors import BadInput

MAX_STRENGTH = 10.0


@dataclass(frozen=True, slots=True)
class ControlStrength:
    """Factors on the hints: entry k holds from latent frame `starts[k]` until the next entry."""

    starts: tuple[int, ...] = (0,)
    factors: tuple[float, ...] = (1.0,)

    def __post_init__(self) -> None:
        pairs = zip(self.starts, self.starts[1:], strict=False)
        increase = self.starts[:1] == (0,) and all(a < b for a, b in pairs)
        if not increase or len(self.factors) != len(self.starts):
            raise BadInput(
                "A control strength has one factor for each latent frame at which it changes, from "
                f"0 on in increasing order; got {self.starts} and {len(self.factors)} factors."
            )
        for factor in self.factors:
            if not math.isfinite(factor) or not 0 <= factor <= MAX_STRENGTH:
                raise BadInput(f"A control strength is from 0 to {MAX_STRENGTH:g}; got {factor:g}.")

    def at(self, frame: int) -> float:
        """The factor at a latent frame."""
        return self.factors[bisect_right(self.starts, frame) - 1]

    def then(self, frame: int, factor: float) -> ControlStrength:
        """This strength before a latent frame, and one factor from there on."""
        count = bisect_left(self.starts, frame)
        return ControlStrength((*self.starts[:count], frame), (*self.factors[:count], factor))


@dataclass(frozen=True, slots=True)
class StrengthChange:
    """A factor from latent frame `start_frame` on, reached evenly over `over_frames`."""

    start_frame: int
    factor: float
    over_frames: int = 0


def strength_of_changes(changes: Sequence[StrengthChange]) -> ControlStrength:
    """The strength over time; of two changes at one frame the last counts.

    Before the first change the strength is that of the first change.
    """
    by_frame = {change.start_frame: change for change in changes}
    ordered = [by_frame[frame] for frame in sorted(by_frame)]
    if not ordered:
        return ControlStrength()
    now, factors = ordered[0].factor, {0: ordered[0].factor}
    for number, change in enumerate(ordered):
        stop = ordered[number + 1].start_frame if number + 1 < len(ordered) else math.inf
        before = now
        for step in range(max(1, change.over_frames)):
            if change.start_frame + step >= stop:
                break
            share = (step + 1) / max(1, change.over_frames)
            now = change.factor if share == 1 else before + (change.factor - before) * share
            factors[change.start_frame + step] = now
    return ControlStrength(tuple(factors), tuple(factors.values()))
