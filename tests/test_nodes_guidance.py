"""The guidance nodes: what they hand to the sampler, what they say it costs, what they refuse."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from longtake.attention.cache_policy import WindowSink
from longtake.errors import BadInput
from longtake.samplers import guidance as g
from longtake.samplers.cache_plan import planned_bytes
from longtake.samplers.context_noise import ContextNoise
from longtake.samplers.cost import cost, histories_used, without_guidance
from longtake.samplers.denoiser import local_denoiser
from longtake.samplers.rollout import generate
from longtake.tests.node_bench import Bench
from longtake.tests.test_history_guidance import CASES
from longtake.tests.tiny_model import TINY, random_dit, settings, timeline

MODEL = local_denoiser(random_dit(), TINY)
HISTORY = "LongtakeHistoryGuidance"


@pytest.mark.parametrize(
    ("inputs", "expected"),
    [
        ({"preset": "text only"}, g.cfg(2.5)),
        ({"preset": "vanilla"}, g.extended(g.cfg(2.5), g.vanilla(1.5))),
        ({"preset": "vanilla", "text_scale": 1.0, "none_as": "nothing"}, g.vanilla(1.5, g.DROP)),
        ({"preset": "vanilla with text"}, g.vanilla(1.5, drop_prompt=True)),
        ({"preset": "temporal", "text_scale": 1.0}, g.temporal(0.5, g.last(4))),
        (
            {"preset": "temporal and none", "exact": True, "text_scale": 1.0},
            g.temporal(0.5, g.last(4, exact=True), scale=1.5),
        ),
        ({"preset": "fractional", "level": 0.6, "text_scale": 1.0}, g.fractional(1.5, 0.6)),
        ({"preset": "three branches", "text_scale": 7.5, "none_as": "nothing"}, g.magi(1.5, 7.5)),
        ({"preset": "text only", "stabilise": 0.02}, g.stabilised(g.cfg(2.5), 0.02)),
    ],
)
def test_each_preset_is_its_sum(
    bench: Bench,
    inputs: dict[str, Any],
    expected: g.Guidance,
) -> None:
    made = bench.run(HISTORY, **inputs)[0]
    assert {(b.prompt, b.view): b.weight for b in made.branches} == pytest.approx(
        {(b.prompt, b.view): b.weight for b in expected.branches}
    )
    assert replace(made, branches=expected.branches) == expected


def test_nodes_chain_and_the_first_ones_text_guidance_is_the_only_one(
    bench: Bench,
) -> None:
    [text] = bench.run(HISTORY, preset="text only", text_scale=3.0)
    [both] = bench.run(HISTORY, preset="fractional", level=0.5, guidance=text)
    [three] = bench.run(
        "LongtakeGuidanceTerm", weight=0.2, view="range", newest=2, oldest=5, guidance=both
    )
    weights = {(b.prompt, str(b.view)): pytest.approx(b.weight) for b in three.branches}
    assert weights == {
        ("positive", "all"): 2.8, ("negative", "all"): -2.0, ("positive", "all at noise 0.5"): 0.5,
        ("positive", "pure noise"): -0.5, ("positive", "2 to 5 back"): 0.2,
    }  # fmt: skip


def test_a_term_of_the_whole_history_under_the_negative_prompt_is_text_guidance(
    bench: Bench,
) -> None:
    [made] = bench.run("LongtakeGuidanceTerm", weight=-1.0, view="all", prompt="negative")
    assert made == g.cfg(2.0)


def test_options_change_when_and_how_far_not_the_terms(bench: Bench) -> None:
    inputs = {"from_level": 0.7, "per_step": "1, 0.5", "norm_cap": 2.0, "one_at_a_time": True}
    [made] = bench.run("LongtakeGuidanceOptions", guidance=g.vanilla(1.5), **inputs)
    assert made == replace(
        g.vanilla(1.5),
        when=g.When((0.7, 1.0), (1.0, 0.5)),
        limits=g.Limits(0.0, 2.0),
        at_once=False,
    )
    with pytest.raises(BadInput, match="per_step is 'one'"):
        bench.run("LongtakeGuidanceOptions", guidance=made, per_step="one")


def test_the_sampler_uses_it_says_what_it_costs_and_the_report_what_ran(
    bench: Bench,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO")
    [guidance] = bench.run(HISTORY, preset="temporal", text_scale=1.0)
    assert "2 model evaluations a step: 0.5 x all, 0.5 x last 4." in caplog.text
    frames = bench.frames(guidance=guidance, cfg=9.0)
    assert frames.rollout.settings.guidance == guidance
    assert "0.0 MB of it for guidance; 3 model evaluations a chunk instead of 2." in caplog.text
    evals = [chunk.latents.model_evals for chunk in frames.chunks]
    assert evals[-1] == 3
    used = frames.report([]).versions["guidance"]
    assert used.startswith("0.5 x all; 0.5 x last 4 (approximate: cut out of a longer history")


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
    ],
)  # fmt: skip
def test_the_report_says_what_is_exact(guidance: g.Guidance, cache: Any, expected: str) -> None:
    used = histories_used(settings(length=12, guidance=guidance, cache=cache))
    assert used.startswith(expected)
    assert ("approximate" in used) == ("approximate" in expected)


def test_a_sink_that_is_not_there_is_refused() -> None:
    with pytest.raises(BadInput, match="the KV cache has none; set sink_frames"):
        settings(guidance=g.vanilla(1.5, g.SINK))
