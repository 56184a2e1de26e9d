"""Score guidance: a differentiable wish pulls the video its way (Bayes: grad log p(x | y) =
grad log p(x) + grad log p(y | x)).

The gradient is taken with respect to the predicted clean latents only, never through the DiT: the
clean estimate is detached, scored, and the gradient g taken off the velocity: v - w g.

At level s this moves the estimate of the clean latents, x - s v, by s w g, and that of the noise by
-(1 - s) w g. Where the model's velocity stays what it was, x has moved by (1 - s) w g when it gets
there, so that the clean estimate has moved by w g in all, the noise not at all, and every solver,
whether it integrates, extrapolates or adds fresh noise, leaves w g. A model that answers x so that
its own estimate stays leaves what the last step adds, s w g at the last level s.
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
    """How well clean latents fit a wish.

    A frozen dataclass with `eq=False`; its fields (numbers, strings, tensors, dataclasses) name it
    in the chunks' keys. Tensors and modules it holds must be made by `outside_inference`.
    """

    def __call__(self, latents: Tensor, before: Tensor, first: int) -> Tensor:
        """Return log p(target | latents) up to a constant: a scalar, higher is better.

        It is differentiable in latents (f, c, h, w), normalised, float32. `before` are the last
        finished latent frames before them, at most SCORE_LOOKBACK_FRAMES; none at the start.
        `first` is the index of the first latent frame in the rollout.
        """


@dataclass(frozen=True, slots=True)
class WeightedScore:
    """A score and how strongly it pulls.

    `limit` bounds what it adds to the velocity: root mean square per latent frame, in standard
    deviations of the latents.
    """

    score: Score
    weight: float = 1.0
    limit: float = 0.5

    def __post_init__(self) -> None:
        if not math.isfinite(self.weight) or not 0 < self.limit < math.inf:
            raise BadInput(
                f"a score needs a weight that is a number and a limit above 0; got {self.weight} "
                f"and {self.limit}."
            )

    def shift(
        self, clean: Tensor, before: Tensor, first: int, *, strength: Tensor | float = 1.0
    ) -> Tensor:
        """What it adds to the clean latents (f, c, h, w), bounded whatever the `strength`, a factor
        on the weight that may be each frame's own (f, 1, 1, 1).
        """
        shift = strength * self.weight * gradient(self.score, clean, before, first)
        size = shift.square().mean((1, 2, 3), keepdim=True).sqrt()
        return shift * (self.limit / size.clamp(min=self.limit))


def gradient(score: Score, clean: Tensor, before: Tensor, first: int) -> Tensor:
    """The score's gradient with respect to clean latents (f, c, h, w), like them; it is finite."""
    slope = slope_of(score, clean, before, first)
    if not torch.isfinite(slope).all():
        raise NotFinite(
            f"the score {type(score).__name__} gave a gradient that is not finite at latent frame "
            f"{first}; lower its weight or check its picture."
        )
    return slope.to(clean)


def slope_of(score: Score, clean: Tensor, before: Tensor, first: int) -> Tensor:
    """The same as it comes, float32.

    Leaves the host's inference mode for this one computation.
    """
    with torch.inference_mode(False), torch.enable_grad():
        latents = outside_inference(clean).float().requires_grad_()
        (slope,) = torch.autograd.grad(score(latents, outside_inference(before), first), latents)
    return slope


def on_device(part: T, device: torch.device) -> T:
    """A score, or a part of one, with tensors and modules on `device`; the given one stays."""
    if isinstance(part, (Tensor, nn.Module)):
        with torch.inference_mode(False):
            own = part if isinstance(part, Tensor) else deepcopy(part)
            return own.to(device)  # type: ignore[return-value]
    if not is_dataclass(part):
        return part
    made = copy(part)
    for name in {*(one.name for one in fields(part)), *getattr(part, "__dict__", ())}:
        object.__setattr__(made, name, on_device(getattr(part, name), device))
    return made


def outside_inference(tensor: Tensor) -> Tensor:
    """A copy that autograd may use, whatever mode the original was made in."""
    with torch.inference_mode(False):
        return tensor.detach().clone()
