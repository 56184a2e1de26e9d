"""Solvers against their written formulas; a perfect prediction gives the clean latents."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from longtake.samplers.schedule import few_step_ladder
from longtake.samplers.solvers import Euler, ReNoise, Solver
from longtake.tests.laws import examples
from longtake.tests.tiny_model import randn

SHAPE = (3, 4, 2, 2)


def levels(*values: float) -> Tensor:
    """One level per latent frame, (f, 1, 1, 1)."""
    return torch.tensor(values).view(-1, 1, 1, 1)


@st.composite
def ladders(draw: st.DrawFn) -> tuple[float, ...]:
    """Any levels that fall from 1 to 0."""
    inner = draw(st.sets(st.floats(0.01, 0.99), max_size=6))
    return (1.0, *sorted(inner, reverse=True), 0.0)


@pytest.mark.parametrize("solver", [Euler(), ReNoise()])
@examples(40)
@given(ladder=ladders())
def test_a_perfect_prediction_reaches_the_clean_latents(
    solver: Solver, ladder: tuple[float, ...]
) -> None:
    clean, x = randn(*SHAPE, seed=1), randn(*SHAPE, seed=2)
    for step, (now, after) in enumerate(zip(ladder, ladder[1:], strict=False)):
        v = (x - clean) / now
        noise = randn(*SHAPE, seed=3 + step)
        x = solver.step(x, v, levels(now, now, now), levels(after, after, after), noise)
    torch.testing.assert_close(x, clean, rtol=1e-4, atol=1e-4)


def test_renoise_is_the_lcm_sampler_of_the_host() -> None:
    """ComfyUI `comfy/k_diffusion/sampling.py` sample_lcm for flow models, given the same noise."""
    sigmas = few_step_ladder((1000, 750, 500, 250), 5.0)
    weights = randn(4, 4, seed=9)

    def velocity(x: Tensor, sigma: float) -> Tensor:
        return torch.einsum("fchw,cd->fdhw", x, weights) * (1 + sigma)

    x = y = randn(*SHAPE)
    for i, (now, after) in enumerate(zip(sigmas, sigmas[1:], strict=False)):
        noise = randn(*SHAPE, seed=20 + i)
        x = ReNoise().step(x, velocity(x, now), levels(*3 * [now]), levels(*3 * [after]), noise)
        y = y - now * velocity(y, now)
        if after > 0:
            y = after * noise + (1 - after) * y
    torch.testing.assert_close(x, y, rtol=1e-4, atol=1e-4)


def test_euler_moves_along_the_velocity() -> None:
    x, v = randn(*SHAPE), randn(*SHAPE, seed=1)
    now, after = levels(1.0, 0.8, 0.3), levels(0.5, 0.2, 0.0)
    ours = Euler().step(x, v, now, after, None)
    for frame, change in enumerate((-0.5, -0.6, -0.3)):
        torch.testing.assert_close(ours[frame], x[frame] + change * v[frame])


@pytest.mark.parametrize("solver", [Euler(), ReNoise()])
def test_a_frame_whose_level_does_not_change_is_untouched(solver: Solver) -> None:
    x, v, noise = (randn(*SHAPE, seed=i) for i in range(3))
    now, after = levels(1.0, 0.8, 0.0), levels(1.0, 0.2, 0.0)
    ours = solver.step(x, v, now, after, noise)
    assert torch.equal(ours[0], x[0])
    assert not torch.equal(ours[1], x[1])
    assert torch.equal(ours[2], x[2])


def test_the_clean_estimate_does_not_lose_bits_to_float32() -> None:
    """Large velocities cancel: the estimate is that of float64, rounded once."""
    x, v = 1e4 * randn(*SHAPE), 1.6e4 * randn(*SHAPE)
    now, after = levels(0.625, 0.625, 0.625), levels(0.0, 0.0, 0.0)
    ours = ReNoise().step(x, v, now, after, randn(*SHAPE))
    expected = (x.double() - 0.625 * v.double()).float()
    assert torch.equal(ours, expected)
