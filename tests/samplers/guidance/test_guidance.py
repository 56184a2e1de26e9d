"""Law 5: weights sum to 1, a branch of weight 0 is not there, predictions are what is combined."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from longtake.errors import BadInput
from longtake.samplers.guidance import NOISE, Branch, Guidance, cfg
from longtake.samplers.guidance.combine import combine
from longtake.samplers.solvers.single_step import Euler, Move, ReNoise, Solver
from longtake.tests.support.laws import examples
from longtake.tests.support.tiny_model import randn

SHAPE = (3, 4, 2, 2)


def weights(guidance: Guidance) -> list[list[float]]:
    """The branches' weights for the frames of SHAPE."""
    return [[weight] * SHAPE[0] for weight in guidance.weights(1.0, 0, started=True)]


@examples(100)
@given(scale=st.floats(-100, 100))
def test_weights_sum_to_one_and_none_is_zero(scale: float) -> None:
    weights = [branch.weight for branch in cfg(scale).branches]
    assert math.isclose(sum(weights), 1, abs_tol=1e-6)
    assert 0 not in weights


def test_scale_one_is_the_prompt_alone_and_scale_zero_the_negative_alone() -> None:
    assert cfg(1.0).branches == (Branch(1.0, "positive"),)
    assert cfg(0.0).branches == (Branch(1.0, "negative"),)


def test_one_branch_is_returned_bit_for_bit() -> None:
    v = randn(1, *SHAPE)
    assert torch.equal(combine(v, [[1.0] * 3]), v[0])


@pytest.mark.parametrize("scale", [-0.5, 1.5, 7.0])
def test_cfg_goes_from_the_negative_past_the_prompt(scale: float) -> None:
    positive, negative = randn(*SHAPE), randn(*SHAPE, seed=1)
    ours = combine(torch.stack([positive, negative]), weights(cfg(scale)))
    torch.testing.assert_close(ours, negative + scale * (positive - negative))


@pytest.mark.parametrize("solver", [Euler(), ReNoise()])
def test_combining_velocities_is_combining_clean_estimates(solver: Solver) -> None:
    x, v, noise = randn(*SHAPE), randn(2, *SHAPE, seed=1), randn(*SHAPE, seed=2)
    now, after = (torch.tensor(s).view(-1, 1, 1, 1) for s in ((1.0, 0.9, 0.6), (0.9, 0.6, 0.0)))
    of_branches = weights(cfg(3.0))
    ours = solver.step(x, combine(v, of_branches), Move(now, after, noise), ())[0]
    clean = combine(x - now * v, of_branches)
    theirs = solver.step(x, (x - clean) / now, Move(now, after, noise), ())[0]
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


def test_equal_predictions_stay_what_they_are() -> None:
    v = randn(*SHAPE)
    branches = (Branch(1.7), Branch(-0.9, "negative"), Branch(0.2, view=NOISE))
    ours = combine(v.expand(3, *SHAPE), weights(Guidance(branches)))
    torch.testing.assert_close(ours, v)


@pytest.mark.parametrize(
    "branches",
    [
        (),
        (Branch(0.9),),
        (Branch(1.0), Branch(0.0, "negative")),
        (Branch(float("nan")),),
        (Branch(0.5), Branch(0.5)),
    ],
)
def test_weights_that_are_no_guidance_are_refused(branches: tuple[Branch, ...]) -> None:
    with pytest.raises(BadInput, match="(?i)guidance"):
        Guidance(branches)


@pytest.mark.parametrize("scale", [float("nan"), float("inf")])
def test_a_scale_that_is_no_number_is_refused(scale: float) -> None:
    with pytest.raises(BadInput, match="guidance scale must be a number"):
        cfg(scale)
