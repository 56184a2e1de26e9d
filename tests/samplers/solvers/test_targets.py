"""Where a solver's steps use the prediction, by what its own step does with a mean velocity."""

from __future__ import annotations

import pytest
import torch

from longtake.samplers.solvers.multistep import DPMSolverPP2M, UniPC2
from longtake.samplers.solvers.single_step import (
    DDIM,
    Euler,
    Move,
    ReNoise,
    ReNoiseInHalves,
    Solver,
)
from longtake.tests.support.tiny_model import randn

LEVELS = [(1.0, 0.6), (0.95, 0.3), (0.6, 0.0)]
CLEAN, NOISE, FRESH = (randn(1, 4, 2, 2, seed=seed).double() for seed in range(3))


def path(level: float) -> torch.Tensor:
    """A curved path from noise to clean latents."""
    return level**2 * NOISE + (1 - level**2) * CLEAN


def step(solver: Solver, now: float, after: float) -> torch.Tensor:
    """One step from the path's point at `now`, by its mean velocity to the solver's target."""
    target = solver.target(now, after)
    mean = (path(now) - path(target)) / (now - target)
    levels = (torch.tensor(level).double().view(1, 1, 1, 1) for level in (now, after))
    move = Move(*levels, FRESH if solver.stochastic else None)
    return solver.step(path(now), mean, move, solver.start(CLEAN))[0]


@pytest.mark.parametrize("solver", [Euler(), DDIM()], ids=str)
@pytest.mark.parametrize(("now", "after"), LEVELS)
def test_a_step_ends_on_a_curved_path(solver: Solver, now: float, after: float) -> None:
    torch.testing.assert_close(step(solver, now, after), path(after))


@pytest.mark.parametrize(("now", "after"), LEVELS)
def test_a_step_by_clean_latents_adds_noise_to_the_path_s_end(now: float, after: float) -> None:
    """What it calls clean is where the path ends, not where a straight line would."""
    expected = (1 - after) * CLEAN + after * FRESH
    torch.testing.assert_close(step(ReNoise(), now, after), expected)


def test_a_step_across_the_boundary_stops_on_the_path() -> None:
    torch.testing.assert_close(step(ReNoiseInHalves(0.9), 0.95, 0.5), path(0.9))


@pytest.mark.parametrize("solver", [DPMSolverPP2M(), UniPC2()], ids=str)
def test_a_solver_of_higher_order_asks_for_the_velocity_where_it_stands(solver: Solver) -> None:
    assert solver.target(0.8, 0.4) == 0.8


def test_targets_are_ends_of_steps_clean_latents_or_the_boundary() -> None:
    assert Euler().target(0.8, 0.4) == DDIM().target(0.8, 0.4) == 0.4
    assert ReNoise().target(0.8, 0.4) == DDIM(eta=1.0).target(0.8, 0.4) == 0.0
    halves = ReNoiseInHalves(0.9)
    assert (halves.target(0.95, 0.92), halves.target(0.95, 0.5), halves.target(0.7, 0.2)) == (
        0.9, 0.9, 0.0,
    )  # fmt: skip
