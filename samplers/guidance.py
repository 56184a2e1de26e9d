"""Guidance as a weighted sum of branches: v = sum_i w_i v_i with sum_i w_i = 1.

Branches differ in their prompt (and, later, in the history they see). Predictions are combined
before any stochastic update; a branch of weight 0 is not evaluated.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from ..errors import BadInput

Prompt = Literal["positive", "negative"]


@dataclass(frozen=True, slots=True)
class Branch:
    """One model evaluation of the sum."""

    weight: float
    prompt: Prompt = "positive"


@dataclass(frozen=True, slots=True)
class Guidance:
    """The branches that are evaluated; weights sum to 1 and none is 0."""

    branches: tuple[Branch, ...] = (Branch(1.0),)

    def __post_init__(self) -> None:
        total = sum(branch.weight for branch in self.branches)
        if not math.isclose(total, 1.0, abs_tol=1e-6):
            raise BadInput(f"guidance weights must sum to 1; got {total}.")
        if any(branch.weight == 0 for branch in self.branches):
            raise BadInput("a guidance branch of weight 0 must be left out.")

    def combine(self, predictions: Tensor) -> Tensor:
        """Weighted sum of predictions (branches, f, c, h, w); one branch is returned as it is."""
        if len(self.branches) == 1:
            return predictions[0]
        weights = predictions.new_tensor([branch.weight for branch in self.branches])
        return (predictions * weights.view(-1, 1, 1, 1, 1)).sum(0)


def cfg(scale: float) -> Guidance:
    """Classifier-free guidance.

    Scale times the prompt's prediction, 1 - scale times the negative prompt's.
    """
    if not math.isfinite(scale):
        raise BadInput(f"the guidance scale must be a number; got {scale}.")
    branches = (Branch(scale), Branch(1 - scale, "negative"))
    return Guidance(tuple(branch for branch in branches if branch.weight != 0))
