"""Score guidance: steers a video towards a differentiable target.

Bayes: grad log p(x | y) = grad log p(x) + grad log p(y | x). The gradient is taken with respect to
the predicted clean latents only, never through the DiT. The clean estimate is detached and scored,
and the gradient g is subtracted from the velocity: v' = v - w g. At level s:

    clean estimate: x - s v' = (x - s v) + s w g
    noise estimate: x + (1 - s) v' = (x + (1 - s) v) - (1 - s) w g

If the model's velocity is unchanged, the clean estimate moves by exactly w g and the noise not at
all, with every solver. If the model compensates fully, only the last step's s w g remains.
"""

from __future__ import annotations

import math
from copy import copy, deepcopy
from dataclasses import dataclass, fields, is_dataclass
from typing import Protocol, TypeVar

import torch
from torch import Tensor, nn

from ...errors import BadInput, NotFinite

T = TypeVar("T")

SCORE_LOOKBACK_FRAMES = 8  # as far back as any tiny decoder looks: TAEHV's looks furthest


class Score(Protocol):
    """Measures how well clean latents match a target.

    A score is a frozen dataclass with `eq=False`. Its fields (numbers, strings, tensors,
    dataclasses) enter the chunks' addresses. Make its tensors and modules with `outside_inference`.
    """

    def __call__(self, latents: Tensor, before: Tensor, first: int) -> Tensor:
        """Return log p(target | latents) up to a constant: a scalar, higher is better.

        It is differentiable in latents (f, c, h, w), normalised, float32. `before` are the last
        finished latent frames before them, at most SCORE_LOOKBACK_FRAMES; none at the start.
        `first` is the index of the first latent frame in the rollout.
        """


@dataclass(frozen=True, slots=True)
class WeightedScore:
    """A score and its weight.

    `limit` bounds the root mean square, per latent frame, of what it adds to the velocity, in
    standard deviations of the latents.
    """

    score: Score
    weight: float = 1.0
    limit: float = 0.5

    def __post_init__(self) -> None:
        if not math.isfinite(self.weight) or not 0 < self.limit < math.inf:
            raise BadInput(
                f"A score needs a weight that is a number and a limit above 0; got {self.weight} "
                f"and {self.limit}."
            )

    def shift(
        self, clean: Tensor, before: Tensor, first: int, *, strength: Tensor | float = 1.0
    ) -> Tensor:
        """The bounded change of clean latents (f, c, h, w).

        `strength` scales the weight; it may differ per frame (f, 1, 1, 1).
        """
        shift = strength * self.weight * gradient(self.score, clean, before, first)
        size = shift.square().mean((1, 2, 3), keepdim=True).sqrt()
        return shift * (self.limit / size.clamp(min=self.limit))


def gradient(score: Score, clean: Tensor, before: Tensor, first: int) -> Tensor:
    """The score's finite gradient with respect to clean latents (f, c, h, w), in their dtype."""
    slope = slope_of(score, clean, before, first)
    if not torch.isfinite(slope).all():
        raise NotFinite(
            f"The score {type(score).__name__} gave a gradient that is not finite at latent frame "
            f"{first}; lower its weight or check its picture."
        )
    return slope.to(clean)


def slope_of(score: Score, clean: Tensor, before: Tensor, first: int) -> Tensor:
    """The raw gradient in float32, which may be infinite.

    Leaves the host's inference mode for this computation.
    """
    with torch.inference_mode(False), torch.enable_grad():
        latents = outside_inference(clean).float().requires_grad_()
        (slope,) = torch.autograd.grad(score(latents, outside_inference(before), first), latents)
    return slope


def on_device(part: T, device: torch.device) -> T:
    """Copy a score, or a part of one, with its tensors and modules on `device`."""
    if isinstance(part, (Tensor, nn.Module)):
        with torch.inference_mode(False):
            own = part if isinstance(part, Tensor) else deepcopy(part)
            return own.to(device)  # type: ignore[return-value]
    if not is_dataclass(part):
        return part
    clone = copy(part)
    for name in {*(one.name for one in fields(part)), *getattr(part, "__dict__", ())}:
        object.__setattr__(clone, name, on_device(getattr(part, name), device))
    return clone


def outside_inference(tensor: Tensor) -> Tensor:
    """Copy a tensor so that autograd may use it, whatever mode the original was made in."""
    with torch.inference_mode(False):
        return tensor.detach().clone()
