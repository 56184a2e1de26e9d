"""What the guidance nodes ask for, as values."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TypeVar

from ..samplers import guidance as g

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class AskedOptions:
    """What Guidance Options changes. What is None, and an empty `per_step`, stays as it is; a norm
    cap of 0 is none.
    """

    from_level: float | None = None
    to_level: float | None = None
    per_step: tuple[float, ...] = ()
    first_chunk: float | None = None
    rescale: float | None = None
    norm_cap: float | None = None
    one_at_a_time: bool = False

    def after(self, before: g.Guidance) -> g.Guidance:
        """The guidance `before` under these options."""
        when, limits, (low, high) = before.when, before.limits, before.when.interval
        return replace(
            before,
            when=g.When(
                (_or(self.from_level, low), _or(self.to_level, high)),
                self.per_step or when.per_step,
                _or(self.first_chunk, when.first_chunk),
            ),
            limits=g.Limits(
                _or(self.rescale, limits.rescale), _or(self.norm_cap, limits.norm_cap) or None
            ),
            at_once=before.at_once and not self.one_at_a_time,
        )


def _or(asked: T | None, before: T) -> T:
    return before if asked is None else asked
