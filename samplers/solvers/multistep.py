"""Multistep solvers for flows: they also use what the model said at the step before.

Both integrate exactly in the half log-SNR lambda = log((1 - s) / s), approximating the clean
estimate between steps. Each latent frame remembers its own last estimates, so frames may be at
different steps of different ladders. The first step and the last one are of first order, as in
diffusers' schedulers with `use_flow_sigmas` and `lower_order_final`.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from ...machine.wide_numbers import wide
from .noise_process import Flow
from .single_step import Move, State


def half_log_snr(s: Tensor) -> Tensor:
    """lambda(s), from minus infinity at pure noise to infinity at clean."""
    return (1 - s).log() - s.log()


def per_frame(x: Tensor) -> Tensor:
    """One zero per latent frame, (f, 1, 1, 1)."""
    return wide(x[:, :1, :1, :1]) * 0


@dataclass(frozen=True, slots=True)
class DPMSolverPP2M:
    """DPM-Solver++(2M), arXiv 2211.01095 algorithm 2 (midpoint).

    Remembers the last clean estimate, its level, and how many steps were taken.
    """

    process: Flow = Flow()
    stochastic: bool = False

    def start(self, x: Tensor) -> State:
        return wide(x) * 0, per_frame(x), per_frame(x)

    def target(self, now: float, after: float) -> float:
        """The level now: orders above the first need the velocity there."""
        return now

    def step(self, x: Tensor, v: Tensor, move: Move, state: State) -> tuple[Tensor, State]:
        """Extrapolate the clean estimate from this step's and the last one's."""
        s, t = wide(move.now), wide(move.after)
        last, level, count = state
        clean = wide(x) - s * wide(v)
        h, before = half_log_snr(t) - half_log_snr(s), half_log_snr(s) - half_log_snr(level)
        second = (count > 0) & (t > 0)
        slope = (h / before * (clean - last)).where(second, 0)
        moved = t / s * wide(x) - (1 - t) * (-h).expm1() * (clean + slope / 2)
        went = move.now != move.after
        fresh = (clean, s, count + 1)
        new_state = tuple(new.where(went, old) for new, old in zip(fresh, state, strict=True))
        return moved.to(x.dtype).where(went, x), new_state


@dataclass(frozen=True, slots=True)
class UniPC2:
    """UniPC of order 2, B(h) = e^h - 1 (arXiv 2302.04867): a predictor, and at the next step a
    corrector that costs no evaluation.

    Remembers the last two clean estimates and their levels, the latents before the last step, and
    how many steps were taken.
    """

    process: Flow = Flow()
    stochastic: bool = False

    def start(self, x: Tensor) -> State:
        nothing, number = wide(x) * 0, per_frame(x)
        return nothing, nothing, nothing, number, number, number

    def target(self, now: float, after: float) -> float:
        """The level now: orders above the first need the velocity there."""
        return now

    def step(self, x: Tensor, v: Tensor, move: Move, state: State) -> tuple[Tensor, State]:
        """Correct the latents with what the model says of them, then predict the next."""
        s, t = wide(move.now), wide(move.after)
        last, _, _, level, _, count = state
        clean = wide(x) - s * wide(v)
        corrected = _correct(s, clean, state).where(count > 0, wide(x))
        h = half_log_snr(t) - half_log_snr(s)
        slope = (last - clean) / (half_log_snr(level) - half_log_snr(s)) * h
        moved = _exponential(corrected, clean + (slope / 2).where((count > 0) & (t > 0), 0), s, t)
        went = move.now != move.after
        fresh = (clean, last, corrected, s, level, count + 1)
        new_state = tuple(new.where(went, old) for new, old in zip(fresh, state, strict=True))
        return moved.to(x.dtype).where(went, x), new_state


def _exponential(x: Tensor, clean: Tensor, s: Tensor, t: Tensor) -> Tensor:
    """The exact step from level s to t for a constant clean estimate."""
    h = half_log_snr(t) - half_log_snr(s)
    return t / s * x - (1 - t) * (-h).expm1() * clean


def _correct(t: Tensor, clean: Tensor, state: State) -> Tensor:
    """UniC: the last step again, now that the estimate at its end, level t, is known."""
    last, earlier, before, s, level, count = state
    h = half_log_snr(t) - half_log_snr(s)
    b = (-h).expm1()
    b1 = (-b / h - 1) / b
    b2 = 2 * (-(-b / h - 1) / h - 0.5) / b
    ratio = (half_log_snr(level) - half_log_snr(s)) / h
    second = count > 1
    weight = (b2 - b1) / (ratio - 1)
    past = (weight * (earlier - last) / ratio).where(second, 0)
    here = (b1 - weight).where(second, 0.5) * (clean - last)
    return _exponential(before, last + past + here, s, t)
