"""Guidance while frames of several levels share a pass, where it is not the same for all of them,
bounded, and with noise in the steps: whole rollouts against the reference without a cache.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d

from longtake.attention.cache.policy import FullHistory, WindowSink
from longtake.samplers.guidance import (
    NOISE,
    Branch,
    Guidance,
    GuidanceTiming,
    Limits,
    SinkFrames,
    View,
    cfg,
    extend,
    fractional,
    last,
    magi,
    vanilla,
)
from longtake.samplers.loop import generate
from longtake.samplers.schedule.context_noise import ContextNoise
from longtake.samplers.schedule.levels import flow_ladder
from longtake.samplers.schedule.rows import (
    StaggeredSchedule,
    asynchronous,
    causal_chunks,
    pyramid,
    rolling,
)
from longtake.samplers.solvers.single_step import DDIM, ReNoise, Solver
from longtake.tests.support.samplers.brute_force import Guided, Step, Term, Terms, Way, rollout
from longtake.tests.support.samplers.guidance_cases import (
    CASES,
    NEGATIVE,
    both,
    cut,
    masked,
    whole,
    windowed,
)
from longtake.tests.support.samplers.guided_rollouts import DIT, MODEL
from longtake.tests.support.tiny_model import settings, timeline

LENGTH, LADDER = 9, flow_ladder(3, 3.0)
PROMPTS = timeline(0, 3, 7)
WAYS: dict[str, tuple[StaggeredSchedule, Way]] = {
    "causal chunks": (causal_chunks(LADDER, 3), Way(LADDER, 3)),
    "pyramid": (pyramid(LADDER), Way(LADDER, 1, 1)),
    "half pyramid, block-causal": (
        dataclasses.replace(pyramid(LADDER, 0.5), visibility="block-causal"),
        Way(LADDER, 1, 0.5, causal=True),
    ),
    "rolling": (rolling(LADDER, 2), Way(LADDER, 2, 1)),
    "asynchronous": (asynchronous(LADDER, 2, 2), Way(LADDER, 2, 2, causal=True)),
}
IN_FLIGHT = [name for name in WAYS if name != "causal chunks"]


def ours(schedule: StaggeredSchedule, guidance: Guidance, **changes: Any) -> Tensor:
    """The engine's rollout."""
    chosen = {"prompts": PROMPTS, "cache": FullHistory(), **changes}
    made = generate(settings(schedule, LENGTH, guidance=guidance, **chosen), MODEL)
    return torch.cat([chunk.latents for chunk in made])


def reference(way: Way, guided: Guided) -> Tensor:
    """The same without a cache."""
    return rollout(DIT, PROMPTS, way, guided, LENGTH)


def assert_same(made: Tensor, expected: Tensor) -> None:
    """Equal to 1e-5 of the largest value."""
    torch.testing.assert_close(made, expected, rtol=0, atol=1e-5 * float(expected.abs().max()))


@pytest.mark.some_cases(4)
@pytest.mark.each_value
@pytest.mark.parametrize("way", IN_FLIGHT)
@pytest.mark.parametrize("name", CASES)
def test_every_history_view_is_seen_by_frames_of_all_levels(name: str, way: str) -> None:
    guidance, terms = CASES[name]
    schedule, as_written = WAYS[way]
    assert_same(ours(schedule, guidance), reference(as_written, Guided(terms)))


@pytest.mark.each_value
@pytest.mark.parametrize("way", ["causal chunks", "rolling"])
@pytest.mark.parametrize("name", CASES)
def test_every_history_view_is_of_what_the_window_holds(name: str, way: str) -> None:
    """Four latent frames: it ends within what was finished together."""
    guidance, terms = CASES[name]
    schedule, as_written = WAYS[way]
    made = ours(schedule, guidance, cache=WindowSink(4))
    assert_same(made, reference(as_written, Guided(windowed(terms, 4))))


@pytest.mark.each_value
@pytest.mark.parametrize("way", ["causal chunks", "asynchronous"])
@pytest.mark.parametrize("sink", [2, 3])
@pytest.mark.parametrize("level", [0.0, 0.6])
@pytest.mark.parametrize("exact", [True, False])
def test_the_sink_at_any_level_is_cut_out_or_passed_alone(
    way: str, sink: int, level: float, exact: bool
) -> None:
    """Also where it ends within a chunk, so that its keys have seen what is not in it."""
    schedule, as_written = WAYS[way]

    def terms(first: int) -> Sequence[Term]:
        visible = range(min(first, sink))
        again = exact and (first > len(visible) or level > 0)
        kept = () if exact else range(first)
        return [Term(1.5, range(first)), Term(-0.5, visible, kept, level, recommitted=again)]

    guidance = vanilla(1.5, View(SinkFrames(), level, exact))
    made = ours(schedule, guidance, cache=WindowSink(LENGTH, sink))
    assert_same(made, reference(as_written, Guided(terms)))


@pytest.mark.parametrize("way", ["causal chunks", "asynchronous"])
@pytest.mark.parametrize("level", [0.0, 0.6])
def test_all_of_a_window_exact_is_a_pass_of_the_window_alone(way: str, level: float) -> None:
    schedule, as_written = WAYS[way]

    def terms(first: int) -> Sequence[Term]:
        seen = range(max(0, first - 4), first)
        return [Term(1.0, seen, level=level, recommitted=first > 4 or level > 0)]

    guidance = Guidance((Branch(1.0, view=View(level=level, exact=True)),))
    made = ours(schedule, guidance, cache=WindowSink(4))
    assert_same(made, reference(as_written, Guided(terms)))


@pytest.mark.each_value
@pytest.mark.parametrize("way", ["causal chunks", "asynchronous"])
@pytest.mark.parametrize("sink", [2, 3])
@pytest.mark.parametrize("level", [0.0, 0.6])
def test_sink_and_window_are_passed_alone_once_frames_between_them_are_gone(
    level: float, sink: int, way: str
) -> None:
    """Side by side, as if nothing had been between them; the sink in both branches."""
    schedule, as_written = WAYS[way]

    def terms(first: int) -> Sequence[Term]:
        held = [f for f in range(first) if f < sink or f >= first - 2]
        gone = len(held) < first
        of_sink = held[:sink]
        all_of_it = Term(1.5, held, level=level, recommitted=gone or level > 0, held=held)
        alone = len(of_sink) < first or level > 0
        return [all_of_it, Term(-0.5, of_sink, level=level, recommitted=alone, held=held)]

    every, first_ones = View(level=level, exact=True), View(SinkFrames(), level, exact=True)
    guidance = Guidance((Branch(1.5, view=every), Branch(-0.5, view=first_ones)))
    made = ours(schedule, guidance, cache=WindowSink(sink + 2, sink))
    assert_same(made, reference(as_written, Guided(terms)))


@pytest.mark.each_value
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(("fresh", "window"), [(True, LENGTH), (False, LENGTH), (True, 4)])
def test_a_history_made_noisy_anew_is_so_for_every_view(fresh: bool, window: int, way: str) -> None:
    """Older is noisier, perhaps with other noise each time; views of a level keep to their own."""
    schedule, as_written = WAYS[way]

    def terms(first: int) -> Sequence[Term]:
        by_age = {"context": lambda frame: 0.4 * min(1, (first - frame) / 5)}
        held = range(max(0, first - window), first)
        whole_of = partial(Term, visible=held, recommitted=True)
        draw = first if fresh else 0
        return [
            whole_of(2.0, draw=draw, **by_age),
            whole_of(-1.0, draw=draw, **by_age, **NEGATIVE),
            whole_of(0.5, level=0.6),
            whole_of(-0.5, level=1.0),
        ]

    noise = ContextNoise(0.4, ramp_frames=5, fresh=fresh)
    guidance, cache = extend(cfg(2.0), fractional(1.5, 0.6)), WindowSink(window)
    made = ours(schedule, guidance, context_noise=noise, cache=cache)
    assert_same(made, reference(as_written, Guided(terms)))


FACTORS, OPENING = (1.0, 0.5, 1.5), 0.25
INTERVAL = (LADDER[2], LADDER[1])  # both included: all but the first of three steps


def strength(level: float, step: int, started: bool) -> float:
    """Where INTERVAL, FACTORS and OPENING hold."""
    inside = INTERVAL[0] - 1e-9 < level < INTERVAL[1] + 1e-9
    return inside * FACTORS[min(step, 2)] * (1.0 if started else OPENING)


TEXT_AND_HISTORY = extend(cfg(2.0), vanilla(1.5))
ITS_TERMS = both(whole(2.5), whole(-1.0, **NEGATIVE), masked(-0.5))
UNEVEN: dict[str, tuple[Guidance, Terms, Terms]] = {
    "text and history": (TEXT_AND_HISTORY, ITS_TERMS, whole(1.0)),
    "fractional": (
        fractional(2.5, 0.6),
        both(whole(1.0), whole(1.5, level=0.6), masked(-1.5)),
        whole(1.0),
    ),
    "a sum without its base": (
        Guidance((Branch(2.5, view=last(3)), Branch(-1.5, view=NOISE))),
        both(cut(2.5, 1, 3, exact=False), masked(-1.5)),
        whole(1.0),
    ),
    "three branches on the text-free base": (
        magi(1.5, 3.0),
        both(
            lambda _: [Term(-0.5, (), negative=True)],
            whole(-1.5, **NEGATIVE),
            whole(3.0, history_negative=True),
        ),
        whole(1.0, **NEGATIVE),
    ),
}


@pytest.mark.each_value
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", UNEVEN)
def test_every_frame_of_a_pass_is_guided_as_strongly_as_its_own_level_and_step_say(
    name: str, way: str
) -> None:
    """The base + strength (sum - base), frame by frame; the engine weighs branches instead."""
    guidance, terms, base = UNEVEN[name]
    schedule, as_written = WAYS[way]
    when = GuidanceTiming(INTERVAL, FACTORS, OPENING)
    made = ours(schedule, dataclasses.replace(guidance, timing=when))
    assert_same(made, reference(as_written, Guided(terms, base, strength)))


def test_a_scaled_guidance_is_so_much_farther_from_its_base() -> None:
    guidance, terms, base = UNEVEN["text and history"]
    schedule, way = WAYS["rolling"]
    expected = reference(way, Guided(terms, base, lambda *_: 0.4))
    assert_same(ours(schedule, guidance.scale_by(0.4)), expected)


RESCALE, CAP = 0.7, 1.05


def rescaled(v: Tensor, base: Tensor) -> Tensor:
    """Lin et al., eq. 15 and 16, each latent frame for itself."""
    frames = []
    for guided, plain in zip(v, base, strict=True):
        matched = guided * plain.std() / guided.std()
        frames.append(RESCALE * matched + (1 - RESCALE) * guided)
    return torch.stack(frames)


def capped(v: Tensor, base: Tensor) -> Tensor:
    """No patch's norm is above CAP times the base's."""
    sizes, most = (avg_pool2d(x.square().sum(1), 2).sqrt() for x in (v, base))
    share = (CAP * most / sizes).clamp(max=1)
    return v * share.repeat_interleave(2, 1).repeat_interleave(2, 2)[:, None]


BOUNDS: dict[str, tuple[Limits, Callable[[Tensor, Tensor], Tensor]]] = {
    "rescale": (Limits(rescale=RESCALE), rescaled),
    "cap": (Limits(norm_cap=CAP), capped),
    "both": (Limits(RESCALE, CAP), lambda v, base: capped(rescaled(v, base), base)),
}


@pytest.mark.each_value
@pytest.mark.parametrize("way", ["causal chunks", "rolling"])
@pytest.mark.parametrize("name", UNEVEN)
@pytest.mark.parametrize("bound", BOUNDS)
def test_bounds_that_bind_compare_with_the_whole_history_under_the_base_prompt(
    bound: str, name: str, way: str
) -> None:
    guidance, terms, base = UNEVEN[name]
    schedule, as_written = WAYS[way]
    limits, formula = BOUNDS[bound]
    always = dataclasses.replace(guidance, timing=GuidanceTiming(), limits=limits)
    expected = reference(as_written, Guided(terms, base, bound=formula))
    assert_same(ours(schedule, always), expected)
    free = ours(schedule, dataclasses.replace(always, limits=Limits()))
    assert (free - expected).abs().max() > 0.05


@pytest.mark.each_value
@pytest.mark.parametrize("way", ["causal chunks", "rolling"])
@pytest.mark.parametrize("bound", BOUNDS)
def test_bounds_come_after_the_strength_of_each_frame(bound: str, way: str) -> None:
    guidance, terms, base = UNEVEN["text and history"]
    schedule, as_written = WAYS[way]
    limits, formula = BOUNDS[bound]
    uneven = dataclasses.replace(
        guidance, timing=GuidanceTiming(INTERVAL, FACTORS, OPENING), limits=limits
    )
    expected = reference(as_written, Guided(terms, base, strength, formula))
    assert_same(ours(schedule, uneven), expected)


def renoised(x: Tensor, v: Tensor, now: float, after: float, fresh: Tensor) -> Tensor:
    """To the clean estimate, then noise for the next level."""
    return (1 - after) * (x - now * v) + after * fresh


def ancestral(eta: float) -> Step:
    """DDIM (arXiv 2010.02502, eq. 12 and 16) with signal 1 - s and noise s."""

    def step(x: Tensor, v: Tensor, now: float, after: float, fresh: Tensor) -> Tensor:
        clean, eps = x - now * v, x + (1 - now) * v
        ratio = (1 - now) / (1 - after)
        drawn = eta * after / now * max(now**2 - (ratio * after) ** 2, 0) ** 0.5
        return (1 - after) * clean + (after**2 - drawn**2) ** 0.5 * eps + drawn * fresh

    return step


def apart(step: Step) -> Step:
    """As if two branches, of weights 3 and -2, each drew noise of its own."""
    return lambda x, v, now, after, fresh: step(x, v, now, after, 3 * fresh - 2 * fresh.flip(-1))


STOCHASTIC: list[tuple[Solver, Step]] = [
    (ReNoise(), renoised), (DDIM(eta=0.6), ancestral(0.6)), (DDIM(eta=1.0), ancestral(1.0)),
]  # fmt: skip


@pytest.mark.each_value
@pytest.mark.parametrize("way", ["causal chunks", "pyramid", "asynchronous"])
@pytest.mark.parametrize(("solver", "step"), STOCHASTIC, ids=["re-noise", "eta 0.6", "eta 1"])
def test_noise_is_added_once_to_the_composed_sample(solver: Solver, step: Step, way: str) -> None:
    """T10: by address, so one noise for all branches; one for each would be far from it."""
    schedule, as_written = WAYS[way]
    once, each = (
        reference(dataclasses.replace(as_written, step=one), Guided(ITS_TERMS))
        for one in (step, apart(step))
    )
    assert_same(ours(schedule, TEXT_AND_HISTORY, solver=solver), once)
    assert (each - once).abs().max() > 0.5


THREE = ["three branches, text-free history", "fractional", "temporal with none", "cfg and vanilla"]


@pytest.mark.each_value
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", THREE)
def test_the_order_of_three_branches_changes_no_bit(name: str, way: str) -> None:
    guidance, (schedule, _) = CASES[name][0], WAYS[way]
    orders = [*itertools.permutations(guidance.branches)]
    assert len(orders) == 6
    made = [ours(schedule, dataclasses.replace(guidance, branches=order)) for order in orders]
    assert all(torch.equal(one, made[0]) for one in made)


@pytest.mark.parametrize("way", ["rolling", "asynchronous"])
@pytest.mark.parametrize("name", THREE)
def test_branches_one_after_another_are_the_same_up_to_rounding(name: str, way: str) -> None:
    """A matrix product of more rows may be summed in another order: found, 1e-6 of the largest."""
    guidance, (schedule, _) = CASES[name][0], WAYS[way]
    together = ours(schedule, guidance)
    alone = ours(schedule, dataclasses.replace(guidance, in_one_pass=False))
    most = 5e-6 * float(together.abs().max())
    torch.testing.assert_close(alone, together, rtol=0, atol=most)
