"""T10 and T11: the algebra of guidance, its schedule and bounds, and its analytic toy."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from longtake.errors import BadInput
from longtake.samplers.denoiser import local_denoiser
from longtake.samplers.guidance import (
    ALL,
    DROP,
    NOISE,
    SINK,
    AgeRange,
    Branch,
    Guidance,
    GuidanceTiming,
    Limits,
    View,
    cfg,
    extend,
    fractional,
    last,
    magi,
    temporal,
    vanilla,
)
from longtake.samplers.guidance.combine import combine, limit
from longtake.samplers.loop import generate
from longtake.samplers.solvers.single_step import Euler, Move, ReNoise
from longtake.tests.support.laws import examples
from longtake.tests.support.tiny_model import TINY, randn, random_dit, settings

MODEL = local_denoiser(random_dit(), TINY)
CONDITIONAL = Guidance()
views = st.sampled_from([ALL, NOISE, SINK, DROP, last(3), last(5, exact=True), View(level=0.5)])
scales = st.floats(-20, 20)


@st.composite
def guidances(draw: st.DrawFn) -> Guidance:
    """Presets, and presets added to presets."""
    kinds: list[Callable[[float], Guidance]] = [
        cfg, vanilla, lambda s: fractional(s, 0.5), lambda s: temporal(0.3, scale=s),
        lambda s: vanilla(s, draw(views)), lambda s: magi(s, 2.0),
    ]  # fmt: skip
    made = draw(st.sampled_from(kinds))(draw(scales))
    return extend(draw(guidances()), made) if draw(st.booleans()) else made


@examples(60)
@given(guidance=guidances(), strength=scales, level=st.floats(0, 1), step=st.integers(0, 9))
def test_weights_sum_to_one_at_any_strength_level_and_step(
    guidance: Guidance, strength: float, level: float, step: int
) -> None:
    varied = dataclasses.replace(guidance, timing=GuidanceTiming((0.2, 0.9), (1.0, 0.5), 0.3))
    for one in (guidance, varied):
        weights = one.scale_by(strength).weights(level, step, started=step > 3)
        assert math.isclose(sum(weights), 1, abs_tol=1e-6 * (1 + max(map(abs, weights))))


@pytest.mark.parametrize(
    "guidance",
    [cfg(1), vanilla(1), vanilla(1, SINK), fractional(1, 0.5), fractional(3, 1.0), temporal(0)],
)
def test_scale_one_is_the_conditional_branch_alone(guidance: Guidance) -> None:
    assert guidance == CONDITIONAL


def test_fractional_at_level_zero_is_vanilla() -> None:
    ours, theirs = fractional(2.5, 0.0).branches, vanilla(2.5).branches
    assert {b.view: b.weight for b in ours} == {b.view: b.weight for b in theirs}


def test_text_and_history_add_up() -> None:
    both = extend(cfg(2.0), vanilla(1.5))
    assert {(b.prompt, b.view): b.weight for b in both.branches} == {
        ("positive", ALL): 2.5, ("negative", ALL): -1.0, ("positive", NOISE): -0.5,
    }  # fmt: skip


def test_adding_no_guidance_changes_nothing() -> None:
    for guidance in (cfg(2.0), magi(), vanilla(2.0, DROP)):
        assert extend(guidance, Guidance()) == guidance


def test_magi_guides_by_three_branches_while_it_is_noisy_and_by_history_alone_after() -> None:
    guidance = magi(1.5, 7.5)
    names = [(b.prompt, b.view.frames == DROP.frames) for b in guidance.all_branches]
    noisy, clean = (guidance.weights(level, 0, started=True) for level in (0.8, 0.6))
    assert dict(zip(names, noisy, strict=True)) == {
        ("negative", True): -0.5, ("negative", False): -6.0, ("positive", False): 7.5,
    }  # fmt: skip
    assert dict(zip(names, clean, strict=True)) == {
        ("negative", True): 0.0, ("negative", False): 1.0, ("positive", False): 0.0,
    }  # fmt: skip


@pytest.mark.parametrize("solver", [Euler(), ReNoise()])
def test_composing_velocity_noise_clean_estimate_or_next_latents_is_the_same(
    solver: Euler | ReNoise,
) -> None:
    shape = (2, 4, 2, 2)
    x, v, noise = randn(*shape), randn(3, *shape, seed=1), randn(*shape, seed=2)
    now, after = torch.tensor([0.9, 0.5]).view(-1, 1, 1, 1), torch.tensor(0.3)
    guidance = extend(cfg(3.0), vanilla(2.0))
    weights = [[w, w] for w in guidance.weights(0.9, 0, started=True)]
    move = Move(now, after, noise)
    ours = solver.step(x, combine(v, weights), move, ())[0]
    clean, eps = combine(x - now * v, weights), combine(x + (1 - now) * v, weights)
    from_parts = [eps - clean, (x - clean) / now, (eps - x) / (1 - now)]
    each = torch.stack([solver.step(x, one, move, ())[0] for one in v])
    for theirs in (*(solver.step(x, p, move, ())[0] for p in from_parts),
                   combine(each, weights)):  # fmt: skip
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)


def test_noise_for_each_branch_would_scale_its_variance() -> None:
    """Why predictions are combined before the stochastic update: 13 times too much at w = 3."""
    weights = [[w] for w in vanilla(3.0).weights(1.0, 0, started=True)]
    apart = combine(randn(2, 1, 4, 100, 100), weights)
    assert apart.var().item() == pytest.approx(13, rel=0.05)


def test_outside_its_interval_guidance_is_the_base_alone_and_costs_no_more() -> None:
    never = dataclasses.replace(vanilla(2.0), timing=GuidanceTiming(interval=(0.0, 0.0)))
    ours, plain = (list(generate(settings(guidance=g), MODEL)) for g in (never, CONDITIONAL))
    assert all(torch.equal(a.latents, b.latents) for a, b in zip(ours, plain, strict=True))
    assert [c.model_evals for c in ours] == [c.model_evals for c in plain]


def test_strength_zero_is_the_base_alone_bit_for_bit() -> None:
    ours, plain = (
        list(generate(settings(guidance=g), MODEL)) for g in (vanilla(2.0).scale_by(0), CONDITIONAL)
    )
    assert all(torch.equal(a.latents, b.latents) for a, b in zip(ours, plain, strict=True))


def test_without_a_history_all_views_are_one_evaluation() -> None:
    chunks = list(generate(settings(guidance=fractional(2.0, 0.5)), MODEL))
    # Two steps; later three branches, after commits to two histories and one of noise.
    assert [chunk.model_evals for chunk in chunks] == [2, 6 + 3, 6 + 3]


def test_noise_in_place_of_the_history_is_made_once() -> None:
    s = settings(guidance=vanilla(2.0), length=15, prompts=settings().prompts)
    window = dataclasses.replace(s, cache=dataclasses.replace(s.cache, window_frames=6))
    evals = [chunk.model_evals for chunk in generate(window, MODEL)]
    assert evals[1:] == [4 + 2, 4 + 2, 4 + 1, 4 + 1]


def test_per_step_weights_hold_on_and_the_first_chunk_has_its_own() -> None:
    when = GuidanceTiming(per_step=(1.0, 0.5), first_chunk=0.0)
    guidance = dataclasses.replace(cfg(3.0), timing=when)
    assert guidance.weights(1.0, 0, started=True) == (3.0, -2.0)
    assert guidance.weights(0.5, 1, started=True) == guidance.weights(0.2, 7, started=True)
    for step in (1, 2, 3):
        assert guidance.weights(0.5, step, started=True) == (2.0, -1.0)
    assert guidance.weights(1.0, 0, started=False) == (1.0, 0.0)


def test_full_rescale_gives_the_base_deviation_and_half_goes_half_way() -> None:
    base, v = randn(3, 4, 4, 6), 3 * randn(3, 4, 4, 6, seed=1)
    for share in (0.5, 1.0):
        ours = limit(v, base, Limits(rescale=share)).std((1, 2, 3))
        expected = (1 - share) * v.std((1, 2, 3)) + share * base.std((1, 2, 3))
        torch.testing.assert_close(ours, expected)


def test_the_norm_cap_bounds_each_token_and_leaves_smaller_ones() -> None:
    base, v = randn(2, 4, 4, 6), 2 * randn(2, 4, 4, 6, seed=1)
    ours = limit(v, base, Limits(norm_cap=1.5))

    def norms(x: Tensor) -> Tensor:
        return x.unfold(2, 2, 2).unfold(3, 2, 2).square().sum((1, 4, 5)).sqrt()

    most = 1.5 * norms(base)
    torch.testing.assert_close(norms(ours), torch.minimum(norms(v), most))
    small = (norms(v) <= most).repeat_interleave(2, -2).repeat_interleave(2, -1).unsqueeze(1)
    assert torch.equal(ours.where(small, 0), v.where(small, 0))
    assert 0 < small.float().mean() < 1


def test_limits_are_compared_with_the_base_even_where_it_has_no_weight() -> None:
    only_short = Guidance((Branch(1.0, view=last(2)),), limits=Limits(norm_cap=1e6))
    free = dataclasses.replace(only_short, limits=Limits())
    ours, plain = (list(generate(settings(guidance=g), MODEL)) for g in (only_short, free))
    torch.testing.assert_close(ours[2].latents, plain[2].latents, rtol=1e-5, atol=1e-5)
    assert ours[2].model_evals > plain[2].model_evals


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: AgeRange(0, 3), lambda: AgeRange(4, 3), lambda: View(level=1.5),
        lambda: GuidanceTiming((0.9, 0.1)),
        lambda: GuidanceTiming(per_step=(math.nan,)),
        lambda: Limits(rescale=2), lambda: Limits(norm_cap=0),
        lambda: dataclasses.replace(Guidance(), stabilise=1.0),
        lambda: Guidance().scale_by(math.inf),
        lambda: vanilla(math.nan),
    ],
)  # fmt: skip
def test_settings_that_are_no_guidance_are_refused(wrong: Callable[[], object]) -> None:
    with pytest.raises(BadInput):
        wrong()


RHO, PAST = 0.8, 1.3


def gaussian_velocity(mean: float, variance: float) -> Callable[[Tensor, float], Tensor]:
    """The exact flow velocity E[noise - clean | x] where clean is N(mean, variance)."""

    def velocity(x: Tensor, level: float) -> Tensor:
        a, s = 1 - level, level
        residual = (x - a * mean) / (a * a * variance + s * s)
        return s * residual - (mean + a * variance * residual)

    return velocity


def masked_past(level: float) -> tuple[float, float]:
    """Mean and variance of x2 given x1 at a noise level, x1's noisy value being (1 - level) x1."""
    a, s = 1 - level, level
    gain = RHO * a / (a * a + s * s)
    return gain * a * PAST, 1 - RHO * gain * a


@pytest.mark.parametrize(
    ("guidance", "mean", "deviation"),
    [
        (CONDITIONAL, 1.040, 0.600), (Guidance((Branch(1.0, view=View(level=0.5)),)), 0.520, 0.825),
        (vanilla(1.5), 1.342, 0.464), (vanilla(3.0), 1.788, 0.215),
        (fractional(1.5, 0.5), 1.182, 0.544),
    ],
)  # fmt: skip
def test_the_analytic_toy_has_the_known_means_and_deviations(
    guidance: Guidance, mean: float, deviation: float
) -> None:
    """T11: x1, x2 of an AR(1) process, x1 known; 400 Euler steps. Vanilla overshoots and
    collapses (a static video), fractional less.
    """
    velocities = [gaussian_velocity(*masked_past(b.view.level)) for b in guidance.branches]
    x = randn(200_000, 1, 1, 1)
    for step in range(400):
        now, after = 1 - step / 400, 1 - (step + 1) / 400
        predictions = torch.stack([velocity(x, now) for velocity in velocities])
        weights = [[w] for w in guidance.weights(now, step, started=True)]
        levels = torch.tensor(now), torch.tensor(after)
        x = Euler().step(x, combine(predictions, weights), Move(*levels), ())[0]
    assert x.mean().item() == pytest.approx(mean, abs=0.01)
    assert x.std().item() == pytest.approx(deviation, abs=0.01)
