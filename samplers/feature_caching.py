"""Feature caching: where a pass would see nearly the same again, the last pass's work is added.

What all blocks add to the tokens that enter them changes little from step to step where there are
many steps. So a pass whose tokens have hardly changed since the last computed one takes over what
that one added, and only the patch embedding and the head run (TeaCache, Liu et al., arXiv
2411.19108; FlowCache, Ma et al., arXiv 2602.10825). FlowCache decides for each chunk in work; here
a pass is computed or taken over as a whole.

Nothing is taken over from one chunk to the next, so that a resumed shot has the same bits.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..errors import BadInput
from .schedule.row import Row


@dataclass(frozen=True, slots=True)
class FeatureCaching:
    """When a pass is computed: once its tokens have changed by `threshold` since the last one was.

    The change from step to step is the mean absolute difference of a latent frame's tokens over
    their mean size, of the frame that changes most, and these changes are summed. The first
    `first_steps` steps of a frame and its last one are always computed.
    """

    threshold: float
    first_steps: int = 1

    def __post_init__(self) -> None:
        if not 0 < self.threshold <= 1:
            raise BadInput(
                "The threshold of feature caching must be above 0 and at most 1; got "
                f"{self.threshold:g}."
            )
        if self.first_steps < 1:
            raise BadInput(
                "Feature caching computes at least the first step of each chunk; got "
                f"{self.first_steps} first steps."
            )

    def may_replace(self, row: Row) -> bool:
        """Whether a pass for this row need not be computed, but for the first one of a chunk."""
        steps = zip(row.steps, row.of_steps, strict=True)
        return all(self.first_steps <= step < total - 1 for step, total in steps)

    def replaceable(self, rows: Sequence[Row]) -> int:
        """How many of the rows that finish a chunk may do without a computed pass."""
        return sum(map(self.may_replace, rows[1:]))


@dataclass(frozen=True, slots=True)
class Evaluations:
    """Model evaluations that were computed, and those that feature caching replaced."""

    computed: int = 0
    replaced: int = 0

    def __add__(self, other: Evaluations) -> Evaluations:
        return Evaluations(self.computed + other.computed, self.replaced + other.replaced)

    def __sub__(self, other: Evaluations) -> Evaluations:
        return Evaluations(self.computed - other.computed, self.replaced - other.replaced)


class CachedPass:
    """A pass that may take over what the last one of its kind added to its tokens."""

    def __init__(self, threshold: float) -> None:
        self.may_replace = False
        self._threshold, self._change = threshold, 0.0
        self._last: Tensor | None = None  # the tokens that entered the last pass
        self._added: Tensor | None = None  # what the last computed pass added to its tokens
        self._computes = True

    @property
    def replaced(self) -> bool:
        """Whether the last pass was taken over."""
        return not self._computes

    def enter(self, tokens: Tensor, blocks: Any) -> tuple[Tensor, Any]:
        """The tokens (b, f, s, c) and the blocks that they pass: all of them or none."""
        self._change += self._changed(tokens)
        self._computes = not self.may_replace or self._change >= self._threshold
        self._last = tokens
        if not self._computes:
            assert self._added is not None
            return tokens + self._added, ()
        self._change, self._added = 0.0, None
        return tokens, blocks

    def leave(self, tokens: Tensor) -> Tensor:
        """Keep what computed blocks have added; returns the tokens."""
        if self._computes:
            assert self._last is not None
            self._added = tokens - self._last
        return tokens

    def _changed(self, tokens: Tensor) -> float:
        """The change since the last pass of the latent frame that changes most; waits for it."""
        last = self._last
        if last is None or self._added is None or tokens.is_meta or last.shape != tokens.shape:
            return float("inf")
        before = last.float()
        change = (tokens.float() - before).abs().mean((2, 3))
        return float((change / before.abs().mean((2, 3)).clamp(min=torch.finfo().tiny)).max())


class FeatureCache:
    """The cached passes of the chunk in work, by what they see."""

    def __init__(self, caching: FeatureCaching | None) -> None:
        self._caching = caching
        self._passes: dict[Hashable, CachedPass] = {}

    def forget(self) -> None:
        """Begin a chunk, which takes over nothing; what was held is free before the commit."""
        self._passes.clear()

    def of(self, row: Row, seen: Hashable) -> CachedPass | None:
        """The pass of a row that sees this; None without feature caching."""
        if self._caching is None:
            return None
        cached = self._passes.setdefault(seen, CachedPass(self._caching.threshold))
        cached.may_replace = self._caching.may_replace(row)
        return cached
