"""What each view reads where a window with a sink has dropped frames: by age, not by rank, and what
it comes down to is what is evaluated, priced and reported.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch

from longtake.attention.cache.policy import (
    CachePolicy,
    FullHistory,
    MostAttended,
    RebuiltWindow,
    WindowSink,
)
from longtake.samplers import guidance as g
from longtake.samplers.denoiser import local_denoiser
from longtake.samplers.loop import generate
from longtake.samplers.planning.cost import cost, histories_used, idle_views, peak_evaluations
from longtake.samplers.schedule.context_noise import ContextNoise
from longtake.samplers.settings import TimedGuidance
from longtake.tests.support.samplers.brute_force import Guided, Term, Way, rollout
from longtake.tests.support.samplers.guided_rollouts import DIT, MODEL
from longtake.tests.support.tiny_model import (
    CHUNKS,
    TINY,
    random_dit,
    settings,
    timeline,
)

LENGTH, ONE = 15, timeline(0)
SHALLOW = local_denoiser(random_dit(replace(TINY, num_layers=1)), replace(TINY, num_layers=1))


def of(guidance: g.Guidance, cache: CachePolicy, **more: Any) -> Any:
    """Settings of five chunks under one prompt."""
    return settings(length=LENGTH, guidance=guidance, cache=cache, **{"prompts": ONE, **more})


def alone(view: g.View) -> g.Guidance:
    """That view and no other."""
    return g.Guidance((g.Branch(1.0, view=view),))


def latents(made: Any, model: Any = MODEL) -> torch.Tensor:
    """All latent frames of a rollout."""
    return torch.cat([chunk.latents for chunk in generate(made, model)])


def held(first: int, window: int, sink: int) -> list[int]:
    """What a window holds of the frames before `first`, written out."""
    if first <= window:
        return [*range(first)]
    return [*range(sink), *range(first - (window - sink), first)]


@pytest.mark.parametrize(("window", "sink"), [(6, 3), (5, 2), (6, 1), (4, 3)])
@pytest.mark.parametrize(("newest", "oldest"), [(1, 4), (2, 4), (1, 2), (3, 9)])
def test_ages_are_how_far_back_a_frame_is_so_that_no_sink_is_among_the_last(
    window: int, sink: int, newest: int, oldest: int
) -> None:
    view = g.View(g.AgeRange(newest, oldest), exact=True)

    def terms(first: int) -> Sequence[Term]:
        there = held(first, window, sink)
        seen = [f for f in there if first - oldest <= f <= first - newest]
        return [Term(1.0, seen, recommitted=len(seen) < first, held=there)]

    expected = rollout(DIT, ONE, Way(CHUNKS.ladder), Guided(terms), LENGTH)
    made = latents(of(alone(view), WindowSink(window, sink)))
    torch.testing.assert_close(made, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("window", "sink"), [(6, 3), (5, 2)])
@pytest.mark.parametrize(("newest", "oldest"), [(1, 4), (1, 2), (2, 4)])
def test_what_is_cut_out_is_the_same_as_keys_of_one_layer_remember_nothing(
    window: int, sink: int, newest: int, oldest: int
) -> None:
    cut, exact = (
        latents(
            of(
                alone(g.View(g.AgeRange(newest, oldest), exact=exact)),
                WindowSink(window, sink),
                schedule=CHUNKS,
            ),
            SHALLOW,
        )
        for exact in (False, True)
    )
    torch.testing.assert_close(cut, exact, rtol=1e-5, atol=1e-5)


def test_a_cache_with_gaps_knows_ages_too() -> None:
    assert g.AgeRange(1, 6).ranks([45, 50, 51, 54, 55, 56], 0) == range(2, 6)
    assert g.AgeRange(3, 4).ranks([45, 50, 51, 54, 55, 56], 0) == range(3, 4)
    assert not g.AgeRange(4, 5).ranks([0, 1, 8, 9], 2) and not g.AgeRange(1, 4).ranks([], 0)
    made = of(g.temporal(0.5, g.last(6)), MostAttended(6, 3))
    assert len([*generate(made, MODEL)]) == 5


WHOLE = (WindowSink(3), WindowSink(4), WindowSink(4, 1), RebuiltWindow(3))


@pytest.mark.parametrize("cache", WHOLE, ids=str)
@pytest.mark.parametrize("short", [3, 4])
def test_a_short_history_that_is_all_of_the_window_is_said_to_be_and_costs_nothing(
    cache: CachePolicy, short: int
) -> None:
    s = of(g.temporal(0.5, g.last(short)), cache)
    *_, last = generate(s, MODEL)
    assert last.model_evals == cost(s, TINY, torch.float32).evaluations
    same = torch.equal(latents(s), latents(of(g.Guidance(), cache)))
    assert same == ("it is all that the window holds" in histories_used(s))
    assert same == (short >= cache.limit and cache.sink_frames == 0)


@pytest.mark.parametrize(
    ("view", "told"),
    [
        (
            g.View(g.AgeRange(10, 14)),
            "10 to 14 back (approximate: nothing, since it is older than the",
        ),
        (g.View(g.NoFrames(), 1.0), "nothing"),
        (g.View(g.NoFrames(), 0.5, exact=True), "nothing"),
    ],
)
def test_what_is_nothing_is_evaluated_priced_and_told_as_nothing(view: g.View, told: str) -> None:
    s = of(g.Guidance((g.Branch(1.5), g.Branch(-0.5, view=view))), WindowSink(6))
    *_, last = generate(s, MODEL)
    nothing = of(g.vanilla(1.5, g.DROP), WindowSink(6))
    assert histories_used(s).split("; -0.5 x ")[1].startswith(told)
    ours, theirs = (cost(one, TINY, torch.float32) for one in (s, nothing))
    assert last.model_evals == ours.evaluations == theirs.evaluations
    assert ours.kv_bytes == theirs.kv_bytes
    assert torch.equal(latents(s)[-3:], latents(nothing)[-3:]) or isinstance(
        view.frames, g.AgeRange
    )


@pytest.mark.parametrize(
    ("view", "cache", "told"),
    [
        (g.last(4), WindowSink(4), "Guidance by last 4 changes nothing: that is all of the window"),
        (g.last(4), WindowSink(6), None),
        (g.last(4), WindowSink(4, 1), None),
        (g.last(4, exact=True), WindowSink(4), None),
        (g.View(g.AgeRange(1, 4), 0.5), WindowSink(4), None),
        (g.View(g.AgeRange(7, 9)), WindowSink(6), "Guidance by 7 to 9 back sees nothing: that is"),
        (g.View(g.AgeRange(7, 9)), WindowSink(60), None),
        (g.last(20), WindowSink(60), None),
        (g.last(20), FullHistory(), None),
        (g.NOISE, WindowSink(3), None),
    ],
)  # fmt: skip
def test_what_a_window_is_too_short_for_is_said(
    view: g.View, cache: CachePolicy, told: str | None
) -> None:
    found = idle_views(of(g.Guidance((g.Branch(0.5), g.Branch(0.5, view=view))), cache))
    assert [one.startswith(told or "") for one in found] == [True] * (told is not None)


def test_parts_as_pure_noise_are_named() -> None:
    names = [
        str(g.View(seen, 1.0))
        for seen in (g.AllFrames(), g.SinkFrames(), g.AgeRange(1, 4), g.NoFrames())
    ]
    assert names == ["pure noise", "sink as pure noise", "last 4 as pure noise", "nothing"]


def test_strengths_of_the_timeline_are_what_cost_and_report_speak_of() -> None:
    guided = g.temporal(0.5, g.last(2))
    off = replace(
        of(guided, WindowSink(6)), guidance_changes=(TimedGuidance(0, guided.scale_by(0)),)
    )
    *_, last = generate(off, MODEL)
    assert last.model_evals == cost(off, TINY, torch.float32).evaluations == 3
    assert histories_used(off).startswith("1 x all") and "last 2" not in histories_used(off)
    later = replace(off, guidance_changes=(*off.guidance_changes, TimedGuidance(6, guided)))
    *_, last = generate(later, MODEL)
    assert cost(later, TINY, torch.float32).evaluations == 3
    assert last.model_evals == peak_evaluations(later, TINY, torch.float32) == 5
    assert "; from latent frame 6: 0.5 x all" in histories_used(later)
    assert g.cfg(3.0).scale_by(0.5).text_scale == pytest.approx(2.0)


@pytest.mark.parametrize("more", [{"context_noise": ContextNoise(0.3)}, {}])
def test_a_noisy_view_is_never_cleaner_than_the_history_it_is_compared_with(
    more: dict[str, Any],
) -> None:
    cleaner, same = (
        g.fractional(2.0, level) if more else g.stabilise(g.fractional(2.0, level), 0.3)
        for level in (0.2, 0.3)
    )
    made, expected = (latents(of(one, WindowSink(6), **more)) for one in (cleaner, same))
    assert torch.equal(made, expected)


def test_pure_noise_is_passed_again_where_the_prompt_changes() -> None:
    """Dearest where the window is full."""
    s = of(g.vanilla(1.5), WindowSink(6), prompts=timeline(0, 12))
    evals = [chunk.model_evals for chunk in generate(s, MODEL)]
    assert max(evals[1:]) == peak_evaluations(s, TINY, torch.float32)
    assert peak_evaluations(s, TINY, torch.float32) > cost(s, TINY, torch.float32).evaluations


@pytest.mark.parametrize(
    "cache", [WindowSink(6), WindowSink(7, 1), FullHistory(), RebuiltWindow(5)], ids=str
)
@pytest.mark.parametrize("guidance", [g.Guidance(), g.cfg(2.0), g.vanilla(1.5)])
def test_the_history_is_committed_again_where_the_prompt_changes(
    cache: CachePolicy, guidance: g.Guidance
) -> None:
    s = of(guidance, cache, prompts=timeline(0, 12), on_prompt_change="re-cache")
    evals = [chunk.model_evals for chunk in generate(s, MODEL)]
    assert max(evals[1:]) == peak_evaluations(s, TINY, torch.float32)
    late = replace(s, prompts=timeline(0, LENGTH))  # a change that the shot does not reach
    most = max(chunk.model_evals for chunk in generate(late, MODEL))
    assert peak_evaluations(late, TINY, torch.float32) == most
