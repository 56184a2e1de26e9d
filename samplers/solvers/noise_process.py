"""Noise processes: the shares of clean latents and of noise at a level.

x = alpha(level) clean + sigma(level) noise. The mixture and the model's timestep both come from
here, so that they agree.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, Protocol

import torch
from torch import Tensor

from ...machine.uploads import upload

TIMESTEPS = 1000
Betas = Literal["linear", "scaled linear", "cosine", "sigmoid"]


class NoiseProcess(Protocol):
    """How noise levels from 0, clean, to 1, pure noise, mix latents with noise."""

    def coefficients(self, level: Tensor) -> tuple[Tensor, Tensor]:
        """alpha and sigma, like `level`."""

    def timestep(self, level: float) -> float:
        """The timestep that the model gets for a noise level."""


@dataclass(frozen=True, slots=True)
class Flow:
    """Rectified flow: x = (1 - level) clean + level noise, timesteps 0..1000.

    `timesteps` are pairs of a level and its timestep, where that is not 1000 times the level. With
    `whole` timesteps are rounded down to whole numbers, as Wan's own schedulers do.
    """

    timesteps: tuple[tuple[float, float], ...] = ()
    whole: bool = False

    def coefficients(self, level: Tensor) -> tuple[Tensor, Tensor]:
        return 1 - level, level

    def timestep(self, level: float) -> float:
        """1000 times the level, or the value in `timesteps`."""
        timestep = dict(self.timesteps).get(level, TIMESTEPS * level)
        return math.floor(timestep) if self.whole else timestep


@dataclass(frozen=True, slots=True)
class VariancePreserving:
    """Diffusion in 1000 timesteps, alpha^2 + sigma^2 = 1; level (k + 1) / 1000 is timestep k.

    `betas`: `linear` and `scaled linear` (DDPM, arXiv 2006.11239, and latent diffusion), `cosine`
    (arXiv 2102.09672), `sigmoid` (arXiv 2212.11972; Diffusion Forcing's video models). Level 0 is
    clean, as Diffusion Forcing's timestep -1; the model gets timestep 0.
    """

    betas: Betas = "linear"

    def coefficients(self, level: Tensor) -> tuple[Tensor, Tensor]:
        """The square roots of the signal's and the noise's share of the variance."""
        table = upload(torch.tensor(_signal(self.betas), dtype=level.dtype), level.device)
        signal = table[(TIMESTEPS * level).round().long()]
        return signal.sqrt(), (1 - signal).sqrt()

    def timestep(self, level: float) -> float:
        """The number of the timestep, 0..999."""
        return max(0, round(TIMESTEPS * level) - 1)


def mix(process: NoiseProcess, clean: Tensor, noise: Tensor, level: Tensor) -> Tensor:
    """Mix clean latents with noise at `level`."""
    alpha, sigma = process.coefficients(level)
    return alpha * clean + sigma * noise


@lru_cache
def _signal(betas: str) -> tuple[float, ...]:
    """The signal's share of the variance at levels 0, 1/1000, ... 1."""
    steps = range(TIMESTEPS)
    if betas in ("cosine", "sigmoid"):
        curve = _cosine if betas == "cosine" else _sigmoid
        share = [curve(k / TIMESTEPS) / curve(0) for k in range(TIMESTEPS + 1)]
        shares = [max(b / a, 0.001) for a, b in zip(share, share[1:], strict=False)]
    elif betas == "linear":
        shares = [1 - (1e-4 + (0.02 - 1e-4) * k / (TIMESTEPS - 1)) for k in steps]
    else:
        low, high = 0.00085**0.5, 0.012**0.5
        shares = [1 - (low + (high - low) * k / (TIMESTEPS - 1)) ** 2 for k in steps]
    signal = [1.0]
    for signal_share in shares:
        signal.append(signal[-1] * signal_share)
    return tuple(signal)


def _cosine(t: float) -> float:
    return math.cos((t + 0.008) / 1.008 * math.pi / 2) ** 2


def _sigmoid(t: float) -> float:
    """The sigmoid schedule from -3 to 3 with temperature 1, falling from 1 to 0."""

    def squash(x: float) -> float:
        return 1 / (1 + math.exp(-x))

    return (squash(3) - squash(6 * t - 3)) / (squash(3) - squash(-3))
