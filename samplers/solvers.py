"""Solvers: from a predicted velocity to the latents at the next level.

Flow matching: x_s = (1 - s) x0 + s eps, v = eps - x0, so x0 = x - s v.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor


class Solver(Protocol):
    """One step for several latent frames, each with its own levels."""

    @property
    def stochastic(self) -> bool:
        """Whether `step` uses noise."""

    def step(
        self, x: Tensor, v: Tensor, now: Tensor, after: Tensor, noise: Tensor | None
    ) -> Tensor:
        """x, v, noise (f, c, h, w); levels now and after (f, 1, 1, 1)."""


@dataclass(frozen=True, slots=True)
class Euler:
    """The probability-flow ODE by Euler: x + (s' - s) v."""

    stochastic: bool = False

    def step(
        self, x: Tensor, v: Tensor, now: Tensor, after: Tensor, noise: Tensor | None
    ) -> Tensor:
        """Move along the velocity."""
        return x + (after - now) * v


@dataclass(frozen=True, slots=True)
class ReNoise:
    """The few-step family's step: go to the clean estimate, then add fresh noise for the next
    level.

    x0 = x - s v in float64, x' = (1 - s') x0 + s' eps (Self-Forcing
    `pipeline/causal_inference.py`).
    """

    stochastic: bool = True

    def step(
        self, x: Tensor, v: Tensor, now: Tensor, after: Tensor, noise: Tensor | None
    ) -> Tensor:
        """Estimate and re-noise; without a change of level the frame stays as it is."""
        assert noise is not None
        wide = torch.float32 if x.device.type == "mps" else torch.float64  # MPS has no float64
        clean = (x.to(wide) - now.to(wide) * v.to(wide)).to(x.dtype)
        return ((1 - after) * clean + after * noise).where(now != after, x)
