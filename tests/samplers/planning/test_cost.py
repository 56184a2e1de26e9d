"""What a chunk costs before it is made, and which histories are said to be exact."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from longtake.attention.cache.placed_windows import DistantSink
from longtake.attention.cache.policy import (
    AveragingSink,
    FullHistory,
    RebuiltWindow,
    WindowSink,
)
from longtake.samplers import guidance as g
from longtake.samplers.conditioning.known_frames import KnownFrame, KnownFrames
from longtake.samplers.denoiser import local_denoiser
from longtake.samplers.history.plan import planned_bytes
from longtake.samplers.loop import generate
from longtake.samplers.planning.cost import cost, histories_used, peak_evaluations, without_guidance
from longtake.samplers.schedule.context_noise import ContextNoise
from longtake.samplers.schedule.levels import flow_ladder
from longtake.samplers.schedule.rows import full_sequence, pyramid
from longtake.tests.support.samplers.guidance_cases import CASES
from longtake.tests.support.tiny_model import (
    TINY,
    randn,
    random_dit,
    settings,
    timeline,
)

MODEL = local_denoiser(random_dit(), TINY)


@pytest.mark.parametrize("name", CASES)
def test_without_a_history_branches_of_one_prompt_are_one_and_nothing_is_committed(
    name: str,
) -> None:
    guidance = replace(CASES[name][0], timing=g.GuidanceTiming((0.0, 1.0), (1.0, 0.5), 0.5))
    chosen = {"schedule": full_sequence(flow_ladder(3, 2.0)), "prompts": timeline(0)}
    s = settings(length=7, guidance=guidance, **chosen)
    [only] = generate(s, MODEL)
    assert only.model_evals == cost(s, TINY, torch.float32).evaluations


@pytest.mark.some_cases(8)
@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("noise", [ContextNoise(), ContextNoise(0.1, fresh=True)])
def test_the_cost_of_a_chunk_is_what_it_takes(name: str, noise: ContextNoise) -> None:
    guidance = CASES[name][0]
    s = settings(
        length=15, guidance=guidance, cache=WindowSink(6), prompts=timeline(0), context_noise=noise
    )
    *_, last = generate(s, MODEL)
    ours = cost(s, TINY, torch.float32)
    assert last.model_evals == ours.evaluations
    assert last.kv_bytes == ours.kv_bytes == planned_bytes(s, TINY, torch.float32)


PICTURE = KnownFrames((KnownFrame(0, randn(4, 4, 6)),))
FRESH = ContextNoise(0.1, fresh=True)


@pytest.mark.some_cases(4)
@pytest.mark.parametrize(
    ("guidance", "more"),
    [
        (g.temporal(0.5, g.View(g.AgeRange(2, 4), exact=True)), {}),  # over a chunk's boundary
        (g.temporal(0.5, g.View(g.AgeRange(1, 5), exact=True)), {"known_frames": PICTURE}),
        (g.cfg(2.0), {"cache": WindowSink(8, 2), "context_noise": FRESH}),
        (g.cfg(2.0), {"cache": RebuiltWindow(17, 1), "known_frames": PICTURE}),
        (g.cfg(2.0), {"cache": FullHistory(), "context_noise": FRESH, "length": 14}),
        (g.vanilla(1.5, replace(g.SINK, exact=True)),
         {"cache": WindowSink(9, 3), "known_frames": PICTURE}),
        (replace(g.cfg(2.0), timing=g.GuidanceTiming((0.0, 0.7))), {}),
        (g.cfg(2.0), {"schedule": pyramid(flow_ladder(4, 2.0), 2.0)}),
        (g.vanilla(2.0), {"cache": WindowSink(6, 1), "context_noise": FRESH,
                          "schedule": pyramid(flow_ladder(4, 2.0), 2.0)}),
    ],
)  # fmt: skip
def test_the_cost_is_that_of_a_chunk_wherever_chunks_begin(
    guidance: g.Guidance, more: dict[str, Any]
) -> None:
    chosen = {"length": 31, "cache": WindowSink(7), "prompts": timeline(0), **more}
    s = settings(guidance=guidance, **chosen)
    made = [*generate(s, MODEL)]
    ours = cost(s, TINY, torch.float32).evaluations
    assert made[-1 if s.active_frames == 3 else len(made) // 2].model_evals == ours


EXACT = g.temporal(0.5, g.last(4, exact=True))


@pytest.mark.parametrize(
    ("guidance", "more", "typical"),
    [
        (g.vanilla(2.0, drop_prompt=True), {"cache": FullHistory()}, 6),
        (g.vanilla(2.0), {"cache": WindowSink(7)}, 5),
        (g.vanilla(2.0), {"cache": WindowSink(7), "prompts": timeline(0, 6)}, 5),
        (g.vanilla(2.0), {"cache": FullHistory(), "prompts": timeline(0, 12),
                          "on_prompt_change": "re-cache"}, 6),
        (EXACT.scale_by(0.0), {"cache": WindowSink(6)}, 3),
        (g.cfg(2.0), {"cache": FullHistory(), "prompts": timeline(0, 3),
                      "on_prompt_change": "re-cache"}, 6),
    ],
    ids=["noise grows", "window cuts a chunk", "noise anew at a prompt", "noise and re-cache",
         "strength 0", "an early re-cache"],
)  # fmt: skip
def test_the_dearest_chunk_is_what_it_takes(
    guidance: g.Guidance, more: dict[str, Any], typical: int
) -> None:
    s = settings(length=15, guidance=guidance, **{"prompts": timeline(0), **more})
    made = [chunk.model_evals for chunk in generate(s, MODEL)]
    assert cost(s, TINY, torch.float32).evaluations == typical
    assert peak_evaluations(s, TINY, torch.float32) == max(made)


def test_the_cost_of_comparing_with_the_base_counts() -> None:
    bounded = replace(g.temporal(1.0, g.last(2)), limits=g.Limits(rescale=0.5))
    s = settings(length=15, guidance=bounded, cache=WindowSink(6), prompts=timeline(0))
    *_, last = generate(s, MODEL)
    assert last.model_evals == cost(s, TINY, torch.float32).evaluations
    assert cost(without_guidance(s), TINY, torch.float32).evaluations == 3


@pytest.mark.parametrize(
    ("guidance", "cache", "expected"),
    [
        (g.cfg(2.0), WindowSink(12), "2 x all; -1 x all, negative prompt"),
        (g.Guidance(), WindowSink(6), "1 x all (approximate: the window's keys remember evicted"),
        (g.temporal(1.0, g.last(4, exact=True)), WindowSink(6), "1 x last 4, exact"),
        (g.vanilla(2.0, g.SINK), WindowSink(12, 3), "2 x all; -1 x sink"),
        (g.vanilla(2.0, g.SINK), WindowSink(12, 2), "2 x all; -1 x sink (approximate: the sink's"),
        (g.vanilla(2.0), WindowSink(12), "2 x all; -1 x pure noise"),
        (g.Guidance(), RebuiltWindow(6), "1 x all"),
        (g.Guidance(), AveragingSink(6, 3), "1 x all (approximate: the window's keys remember "
         "evicted frames, and the sink's are averages)"),
        (g.vanilla(2.0, g.DROP), WindowSink(12), "2 x all; -1 x nothing"),
        (g.Guidance((g.Branch(1.0, view=g.noisy(0.5)),)), WindowSink(6),
         "1 x all at noise 0.5 (approximate: the window's keys remember evicted"),
        (g.Guidance((g.Branch(1.0, view=g.noisy(0.5)),)), WindowSink(12), "1 x all at noise 0.5"),
        (g.Guidance((g.Branch(1.0, view=g.SINK),)), AveragingSink(6, 3),
         "1 x sink (approximate: the sink's keys are averages)"),
        (g.Guidance((g.Branch(1.0, view=g.SINK),)), AveragingSink(12, 3), "1 x sink"),
        (g.vanilla(2.0), DistantSink(12, 3), "2 x all; -1 x pure noise"),
        (g.vanilla(2.0), DistantSink(6, 3), "2 x all (approximate: the window's keys remember "
         "evicted frames); -1 x pure noise (approximate: its noise is without gaps, unlike"),
        (g.vanilla(2.0, g.View(g.last(4).frames, 1.0)), WindowSink(12),
         "2 x all; -1 x last 4 as pure noise (approximate: cut out of longer noise"),
        (g.vanilla(2.0, g.View(g.SinkFrames(), 1.0)), WindowSink(12, 3),
         "2 x all; -1 x sink as pure noise"),
        (g.vanilla(2.0, g.View(g.SinkFrames(), 1.0)), WindowSink(12, 2),
         "2 x all; -1 x sink as pure noise (approximate: its keys remember the rest of a chunk"),
    ],
)  # fmt: skip
def test_the_report_says_what_is_exact(guidance: g.Guidance, cache: Any, expected: str) -> None:
    used = histories_used(settings(length=12, guidance=guidance, cache=cache))
    assert used.startswith(expected)
    assert ("approximate" in used) == ("approximate" in expected)


@pytest.mark.parametrize(("sink", "exact"), [(1, True), (3, False), (4, True)])
def test_a_sink_behind_a_picture_is_whole_where_a_commit_ends(sink: int, exact: bool) -> None:
    only = g.Guidance((g.Branch(1.0, view=g.SINK),))
    chosen = settings(length=13, guidance=only, cache=WindowSink(7, sink), known_frames=PICTURE)
    assert ("approximate" not in histories_used(chosen)) == exact
    one = {
        "length": 13,
        "cache": WindowSink(7, sink),
        "known_frames": PICTURE,
        "prompts": timeline(0),
    }
    alone = g.Guidance((g.Branch(1.0, view=replace(g.SINK, exact=True)),))
    cut, passed = ([chunk.latents for chunk in generate(settings(guidance=one_of, **one), MODEL)]
                   for one_of in (only, alone))  # fmt: skip
    same = torch.allclose(torch.cat(cut), torch.cat(passed), rtol=1e-4, atol=1e-5)
    assert same == exact


def test_noise_made_anew_and_older_frames_noisier_forget_what_is_evicted() -> None:
    for noise in (FRESH, ContextNoise(0.1, ramp_frames=4)):
        chosen = settings(length=12, cache=WindowSink(6), context_noise=noise)
        assert histories_used(chosen) == "1 x all"
