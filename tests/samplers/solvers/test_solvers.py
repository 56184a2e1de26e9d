"""Solvers against their written formulas; a perfect prediction gives the clean latents (T9)."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from longtake.samplers.schedule.levels import few_step_ladder
from longtake.samplers.solvers.multistep import DPMSolverPP2M, UniPC2
from longtake.samplers.solvers.single_step import (
    DDIM,
    Euler,
    Move,
    ReNoise,
    ReNoiseInHalves,
    Solver,
)
from longtake.tests.support.laws import examples
from longtake.tests.support.samplers.solvers import SHAPE, levels, velocity
from longtake.tests.support.tiny_model import randn

SOLVERS: list[Solver] = [
    Euler(), ReNoise(), UniPC2(), DPMSolverPP2M(), DDIM(), DDIM(eta=0.7), DDIM(eta=1.0),
]  # fmt: skip
each_solver = pytest.mark.parametrize("solver", SOLVERS, ids=repr)


def move(now: float, after: float, noise: Tensor | None = None) -> Move:
    """All three frames the same way."""
    return Move(levels(now, now, now), levels(after, after, after), noise)


@st.composite
def ladders(draw: st.DrawFn) -> tuple[float, ...]:
    """Any levels that fall from 1 to 0."""
    inner = draw(st.sets(st.floats(0.01, 0.99), max_size=6))
    return (1.0, *sorted(inner, reverse=True), 0.0)


@each_solver
@examples(40)
@given(ladder=ladders())
def test_a_perfect_prediction_reaches_the_clean_latents(
    solver: Solver, ladder: tuple[float, ...]
) -> None:
    clean, x = randn(*SHAPE, seed=1), randn(*SHAPE, seed=2)
    state = solver.start(x)
    for step, (now, after) in enumerate(pairwise(ladder)):
        v = (x - clean) / now
        x, state = solver.step(x, v, move(now, after, randn(*SHAPE, seed=3 + step)), state)
    torch.testing.assert_close(x, clean, rtol=1e-4, atol=1e-4)


def test_renoise_is_the_lcm_sampler_of_the_host() -> None:
    """ComfyUI `comfy/k_diffusion/sampling.py` sample_lcm for flow models, given the same noise."""
    sigmas = few_step_ladder((1000, 750, 500, 250), 5.0)
    x = y = randn(*SHAPE)
    for i, (now, after) in enumerate(pairwise(sigmas)):
        noise = randn(*SHAPE, seed=20 + i)
        x, _ = ReNoise().step(x, velocity(x, now), move(now, after, noise), ())
        y = y - now * velocity(y, now)
        if after > 0:
            y = after * noise + (1 - after) * y
    torch.testing.assert_close(x, y, rtol=1e-4, atol=1e-4)


def test_a_half_of_two_few_step_models_goes_to_the_boundary_and_on_from_there() -> None:
    """A perfect prediction at either side of b, and at b, where the second half begins."""
    clean, noise, fresh = (randn(1, 4, 4, 6, seed=seed) for seed in range(3))
    solver, b = ReNoiseInHalves(0.6), 0.6

    def step(now: float, after: float) -> Tensor:
        x = (1 - now) * clean + now * noise
        levels = (torch.tensor(s).view(1, 1, 1, 1) for s in (now, after))
        return solver.step(x, noise - clean, Move(*levels, fresh), ())[0]

    at_boundary = (1 - b) * clean + b * noise
    for crossing in (step(0.9, 0.3), step(b, 0.3)):
        torch.testing.assert_close(crossing, at_boundary)  # no noise: the second half begins at b
    torch.testing.assert_close(step(0.3, 0.1), 0.9 * clean + 0.1 * fresh)
    signal = (1 - 0.8) / (1 - b)
    new = (0.8**2 - (signal * b) ** 2) ** 0.5
    torch.testing.assert_close(step(0.9, 0.8), signal * at_boundary + new * fresh)


def test_euler_moves_along_the_velocity() -> None:
    x, v = randn(*SHAPE), randn(*SHAPE, seed=1)
    ours, _ = Euler().step(x, v, Move(levels(1.0, 0.8, 0.3), levels(0.5, 0.2, 0.0)), ())
    for frame, change in enumerate((-0.5, -0.6, -0.3)):
        torch.testing.assert_close(ours[frame], x[frame] + change * v[frame])


def test_ddim_on_a_flow_is_euler() -> None:
    x, v = randn(*SHAPE), randn(*SHAPE, seed=1)
    to = Move(levels(1.0, 0.8, 0.3), levels(0.5, 0.2, 0.0))
    torch.testing.assert_close(DDIM().step(x, v, to, ())[0], Euler().step(x, v, to, ())[0])


@each_solver
def test_a_frame_whose_level_does_not_change_is_untouched(solver: Solver) -> None:
    x, v, noise = (randn(*SHAPE, seed=i) for i in range(3))
    state = tuple(randn(*part.shape, seed=7).to(part) for part in solver.start(x))
    ours, new = solver.step(x, v, Move(levels(1, 0.8, 0), levels(1, 0.2, 0), noise), state)
    assert not torch.equal(ours[1], x[1])
    for a, b in ((ours, x), *zip(new, state, strict=True)):
        assert torch.equal(a[0], b[0])
        assert torch.equal(a[2], b[2])


@each_solver
def test_frames_at_different_steps_do_not_touch_one_another(solver: Solver) -> None:
    """Frame by frame is all at once: each owns its levels and its memory."""
    ladder = few_step_ladder((1000, 800, 600, 400, 200), 3.0)
    lags = (0, 1, 3)
    x = randn(*SHAPE)
    alone = []
    for frame in range(3):
        y = x[frame : frame + 1]
        state = solver.start(y)
        for i, (now, after) in enumerate(pairwise(ladder)):
            noise = randn(1, *SHAPE[1:], seed=50 + i)
            to = Move(levels(now), levels(after), noise)
            y, state = solver.step(y, velocity(y, now), to, state)
        alone.append(y)
    state = solver.start(x)
    for row in range(len(ladder) - 1 + max(lags)):
        at = [min(max(row - lag, 0), len(ladder) - 1) for lag in lags]
        to = [min(max(row + 1 - lag, 0), len(ladder) - 1) for lag in lags]
        now, after = levels(*(ladder[i] for i in at)), levels(*(ladder[i] for i in to))
        noise = torch.cat([randn(1, *SHAPE[1:], seed=50 + i) for i in at])
        x, state = solver.step(x, velocity(x, now), Move(now, after, noise), state)
    torch.testing.assert_close(x, torch.cat(alone), rtol=1e-6, atol=1e-6)


def test_the_clean_estimate_does_not_lose_bits_to_float32() -> None:
    """Large velocities cancel: the estimate is that of float64, rounded once."""
    x, v = 1e4 * randn(*SHAPE), 1.6e4 * randn(*SHAPE)
    ours, _ = ReNoise().step(x, v, move(0.625, 0.0, randn(*SHAPE)), ())
    expected = (x.double() - 0.625 * v.double()).float()
    assert torch.equal(ours, expected)


@pytest.mark.parametrize("solver", [UniPC2(), DPMSolverPP2M()])
def test_more_steps_come_nearer_and_faster_than_euler_does(solver: Solver) -> None:
    """Second order: on a smooth field, 16 steps beat Euler's 16 by far."""

    def sampled(by: Solver, steps: int) -> Tensor:
        x = randn(*SHAPE)
        state = by.start(x)
        for i in range(steps):
            now, after = 1 - i / steps, 1 - (i + 1) / steps
            # The exact flow of a Gaussian of deviation 1/2: v depends on x and the level.
            share = (1 - now) * 0.25 / ((1 - now) ** 2 * 0.25 + now**2)
            x, state = by.step(x, (x - share * x) / now, move(now, after), state)
        return x

    exact = 0.5 * randn(*SHAPE)
    ours = float((sampled(solver, 16) - exact).abs().max())
    assert ours < 0.2 * float((sampled(Euler(), 16) - exact).abs().max())
