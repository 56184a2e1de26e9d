"""Solvers against diffusers' schedulers, step by step on one trajectory: the same levels, the same
predictions, the same latents.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from longtake.samplers.solvers.multistep import DPMSolverPP2M, UniPC2
from longtake.samplers.solvers.noise_process import Flow, VariancePreserving
from longtake.samplers.solvers.single_step import DDIM, Move, Solver
from longtake.tests.support.samplers.solvers import SHAPE, levels, velocity
from longtake.tests.support.tiny_model import randn

diffusers = pytest.importorskip("diffusers")


def walk(solver: Solver, ladder: list[float], noises: list[Tensor]) -> Iterator[Tensor]:
    """Our latents after each step of the same levels for all frames."""
    x = randn(*SHAPE)
    state = solver.start(x)
    for i, noise in enumerate(noises):
        now, after = levels(*3 * [ladder[i]]), levels(*3 * [ladder[i + 1]])
        x, state = solver.step(x, velocity(x, i / 10), Move(now, after, noise), state)
        yield x


def assert_same_walk(ours: Iterator[Tensor], theirs: Iterator[Tensor]) -> None:
    for step, (a, b) in enumerate(zip(ours, theirs, strict=True)):
        assert float((a - b).abs().max()) <= 2e-6 * max(1, float(b.abs().max())), step


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # theirs
@pytest.mark.parametrize("steps", [1, 2, 3, 8, 30])
@pytest.mark.parametrize(
    ("solver", "name"),
    [(UniPC2(), "UniPCMultistepScheduler"), (DPMSolverPP2M(), "DPMSolverMultistepScheduler")],
)
def test_multistep_solvers_equal_diffusers_step_by_step(
    solver: Solver, name: str, steps: int
) -> None:
    theirs = getattr(diffusers, name)(
        prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0, solver_order=2
    )
    theirs.set_timesteps(steps)

    def walked() -> Iterator[Tensor]:
        y = randn(*SHAPE)
        for i, t in enumerate(theirs.timesteps):
            y = theirs.step(velocity(y, i / 10), t, y).prev_sample
            yield y

    assert_same_walk(walk(solver, theirs.sigmas.tolist(), steps * [torch.zeros(SHAPE)]), walked())


def stochastic(theirs: Any, steps: int, noises: list[Tensor], **options: Any) -> Iterator[Tensor]:
    """diffusers' latents after each step, given our noise."""
    y = randn(*SHAPE)
    for i, t in enumerate(theirs.timesteps):
        y = theirs.step(velocity(y, i / 10), t, y, variance_noise=noises[i], **options).prev_sample
        yield y


@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
@pytest.mark.parametrize(("prediction", "kind"), [("epsilon", "epsilon"), ("v", "v_prediction")])
@pytest.mark.parametrize(
    ("ours", "schedule"),
    [("linear", {}), ("cosine", {"beta_schedule": "squaredcos_cap_v2"}),
     ("scaled linear",
      {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012})],
)  # fmt: skip
def test_ddim_equals_diffusers_step_by_step(
    ours: Any, schedule: dict[str, Any], prediction: Any, kind: str, eta: float
) -> None:
    theirs = diffusers.DDIMScheduler(
        prediction_type=kind, clip_sample=False, timestep_spacing="trailing", **schedule
    )
    theirs.set_timesteps(10)
    ladder = [*((t + 1) / 1000 for t in theirs.timesteps.tolist()), 0.0]
    solver = DDIM(VariancePreserving(ours), prediction, eta)
    assert [solver.process.timestep(level) for level in ladder[:-1]] == theirs.timesteps.tolist()
    noises = [randn(*SHAPE, seed=90 + i) for i in range(10)]
    options = {"eta": eta} if eta else {}
    given_noise = noises if eta else [None] * 10
    expected = stochastic(theirs, 10, given_noise, **options)  # type: ignore[arg-type]
    for a, b in zip(walk(solver, ladder, noises), expected, strict=True):
        assert float((a - b).abs().max()) <= 3e-4 * max(1, float(b.abs().max()))


def test_eta_one_is_ancestral_ddpm() -> None:
    """The posterior of DDPM with its smaller variance; diffusers draws the noise itself."""
    theirs = diffusers.DDPMScheduler(
        prediction_type="v_prediction", clip_sample=False, timestep_spacing="trailing"
    )
    theirs.set_timesteps(10)
    ladder = [*((t + 1) / 1000 for t in theirs.timesteps.tolist()), 0.0]

    def walked() -> Iterator[Tensor]:
        y, generator = randn(*SHAPE), torch.Generator().manual_seed(3)
        for i, t in enumerate(theirs.timesteps):
            y = theirs.step(velocity(y, i / 10), t, y, generator=generator).prev_sample
            yield y

    drawn = torch.Generator().manual_seed(3)
    noises = [torch.randn(SHAPE, generator=drawn) for _ in range(10)]
    ours = walk(DDIM(VariancePreserving(), "v", 1.0), ladder, noises)
    for a, b in zip(ours, walked(), strict=True):
        assert float((a - b).abs().max()) <= 3e-4 * max(1, float(b.abs().max()))


@pytest.mark.parametrize(("steps", "shift"), [(4, 5.0), (30, 8.0), (50, 3.0)])
def test_whole_timesteps_are_those_of_diffusers(steps: int, shift: float) -> None:
    theirs = diffusers.UniPCMultistepScheduler(
        prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=shift
    )
    theirs.set_timesteps(steps)
    process = Flow(whole=True)
    expected = [int(t) for t in theirs.timesteps]
    assert [process.timestep(float(sigma)) for sigma in theirs.sigmas[:-1]] == expected
    assert all(isinstance(process.timestep(float(s)), int) for s in theirs.sigmas)
