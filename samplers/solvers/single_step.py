"""Solvers: from a model's prediction to the latents at the next level.

Every latent frame has its own level and its own solver state. The state is a tuple of tensors (f,
...), one row per active latent frame. Flow matching: x_s = (1 - s) x0 + s eps, v = eps - x0, so x0
= x - s v.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

import torch
from torch import Tensor

from ...errors import BadInput
from ...machine.wide_numbers import wide
from .noise_process import Flow, NoiseProcess

Prediction = Literal["flow", "epsilon", "v"]

State = tuple[Tensor, ...]
"""What a solver remembers of each active latent frame, each (f, ...)."""


@dataclass(frozen=True, slots=True)
class Move:
    """Levels now and after a step (f, 1, 1, 1), and noise like x for a stochastic solver."""

    now: Tensor
    after: Tensor
    noise: Tensor | None = None


class Solver(Protocol):
    """Takes one step for several latent frames, each with its own levels."""

    @property
    def process(self) -> NoiseProcess:
        """How noise is mixed in, and which timestep the model gets."""

    @property
    def stochastic(self) -> bool:
        """Whether `step` uses noise."""

    def start(self, x: Tensor) -> State:
        """The state of latent frames x (f, c, h, w) before their first step."""

    def target(self, now: float, after: float) -> float:
        """The level to which a step uses the prediction, for a model that is told it (a flow map).

        With the mean velocity to level r, x - (now - r) v is exact there. A solver that takes v for
        the velocity at `now` gives `now`.
        """

    def step(self, x: Tensor, v: Tensor, move: Move, state: State) -> tuple[Tensor, State]:
        """Move x (f, c, h, w) to the next level with the prediction v; returns x and the state.

        A frame whose level does not change keeps its latents and its state.
        """


@dataclass(frozen=True, slots=True)
class Euler:
    """The probability-flow ODE by Euler: x + (s' - s) v."""

    process: Flow = Flow()
    stochastic: bool = False

    def start(self, x: Tensor) -> State:
        return ()

    def target(self, now: float, after: float) -> float:
        """Where the step ends."""
        return after

    def step(self, x: Tensor, v: Tensor, move: Move, state: State) -> tuple[Tensor, State]:
        return x + (move.after - move.now) * v, state


@dataclass(frozen=True, slots=True)
class ReNoise:
    """The few-step family's step: go to the clean estimate, then add fresh noise for the next
    level.

    x0 = x - s v in float64, x' = (1 - s') x0 + s' eps (Self-Forcing
    `pipeline/causal_inference.py`).
    """

    process: Flow = Flow()
    stochastic: bool = True

    def start(self, x: Tensor) -> State:
        return ()

    def target(self, now: float, after: float) -> float:
        """Clean latents, to which fresh noise is added."""
        return 0.0

    def step(self, x: Tensor, v: Tensor, move: Move, state: State) -> tuple[Tensor, State]:
        assert move.noise is not None
        clean = (wide(x) - wide(move.now) * wide(v)).to(x.dtype)
        noised = (1 - move.after) * clean + move.after * move.noise
        return noised.where(move.now != move.after, x), state


@dataclass(frozen=True, slots=True)
class ReNoiseInHalves:
    """The step of two few-step models, one from noise to level b `boundary`, one from there.

    Above b: to the estimate at b, y = x - (s - b) v in float64, then noise of the next level,
    x' = a y + sqrt(s'^2 - a^2 b^2) eps with a = (1 - s') / (1 - b). The step that crosses b adds
    none: the second model gets y at its first level. Below b as `ReNoise` (FastVideo
    `pipelines/stages/causal_denoising.py`, `scheduling_self_forcing_flow_match.py`).
    """

    boundary: float
    process: Flow = Flow()
    stochastic: bool = True

    def start(self, x: Tensor) -> State:
        return ()

    def target(self, now: float, after: float) -> float:
        """The boundary from above, clean latents from below."""
        return self.boundary if now >= self.boundary else 0.0

    def step(self, x: Tensor, v: Tensor, move: Move, state: State) -> tuple[Tensor, State]:
        assert move.noise is not None
        b = self.boundary
        floor = torch.where(move.now >= b, b, 0.0)
        estimate = (wide(x) - (wide(move.now) - wide(floor)) * wide(v)).to(x.dtype)
        crosses = (move.now >= b) & (move.after < b)
        signal = (1 - move.after) / (1 - floor)
        noise = (move.after**2 - (signal * floor) ** 2).clamp(min=0).sqrt()
        moved = torch.where(crosses, estimate, signal * estimate + noise * move.noise)
        return moved.where(move.now != move.after, x), state


@dataclass(frozen=True, slots=True)
class DDIM:
    """DDIM (arXiv 2010.02502, eq. 12 and 16) for any process and kind of prediction.

    `eta`, 0 to 1: 0 is deterministic (on a flow: Euler), 1 is ancestral: DDPM's own posterior, of
    variance eta^2 (s'/s)^2 (s^2 - (a/a')^2 s'^2) for signal a and noise s.
    """

    process: NoiseProcess = Flow()
    prediction: Prediction = "flow"
    eta: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.eta <= 1:
            raise BadInput(f"eta is {self.eta:g}; give 0 (no fresh noise) to 1 (ancestral).")

    @property
    def stochastic(self) -> bool:
        return self.eta > 0

    def start(self, x: Tensor) -> State:
        return ()

    def target(self, now: float, after: float) -> float:
        """Where the step ends; clean latents where fresh noise is added."""
        return 0.0 if self.stochastic else after

    def step(self, x: Tensor, v: Tensor, move: Move, state: State) -> tuple[Tensor, State]:
        """Estimate clean latents and noise, and mix them for the next level."""
        (a, s), (a2, s2) = (self.process.coefficients(wide(t)) for t in (move.now, move.after))
        clean, noise = self._split(wide(x), wide(v), a, s)
        fresh = self.eta * s2 / s * (s**2 - (a / a2) ** 2 * s2**2).clamp(min=0).sqrt()
        moved = a2 * clean + (s2**2 - fresh**2).clamp(min=0).sqrt() * noise
        if move.noise is not None:
            moved = moved + fresh * wide(move.noise)
        return moved.to(x.dtype).where(move.now != move.after, x), state

    def _split(self, x: Tensor, v: Tensor, a: Tensor, s: Tensor) -> tuple[Tensor, Tensor]:
        """Clean latents and noise in x = a clean + s noise, from the prediction v."""
        match self.prediction:
            case "flow":  # noise - clean
                return (x - s * v) / (a + s), (x + a * v) / (a + s)
            case "epsilon":  # noise
                return (x - s * v) / a, v
            case "v":  # a noise - s clean
                return a * x - s * v, s * x + a * v
