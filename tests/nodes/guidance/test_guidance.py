"""The guidance nodes: what they hand to the sampler, what they say it costs, what they refuse."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import pytest
import torch

from longtake.errors import BadInput
from longtake.model.preset import DEMO
from longtake.nodes.advice import advising
from longtake.samplers import guidance as g
from longtake.samplers.denoiser import local_denoiser
from longtake.samplers.history.plan import planned_bytes
from longtake.samplers.planning.cost import without_guidance
from longtake.tests.support.node_bench import Bench
from longtake.tests.support.tiny_model import TINY, random_dit, settings

MODEL = local_denoiser(random_dit(), TINY)
HISTORY = "LongtakeHistoryGuidance"


def of_demo(bench: Bench, node: str, **inputs: Any) -> g.Guidance:
    """What a guidance node's value is for the demo."""
    return bench.run(node, **inputs)[0].resolve(DEMO, sink=False)


@pytest.mark.parametrize(
    ("inputs", "expected"),
    [
        ({"preset": "text only"}, g.Guidance()),
        ({"preset": "text only", "text_scale": 2.5}, g.cfg(2.5)),
        ({"preset": "text only", "text_scale": 0.0}, g.cfg(0.0)),
        ({"preset": "vanilla"}, g.vanilla(1.2)),
        ({"preset": "vanilla", "text_scale": 2.5}, g.extend(g.cfg(2.5), g.vanilla(1.2))),
        ({"preset": "vanilla", "text_scale": 1.0, "none_as": "nothing"}, g.vanilla(1.2, g.DROP)),
        ({"preset": "vanilla", "text_scale": 1.0, "scale": 1.5}, g.vanilla(1.5)),
        ({"preset": "vanilla with text"}, g.vanilla(1.5, drop_prompt=True)),
        ({"preset": "temporal", "text_scale": 1.0}, g.temporal(0.5, g.last(4))),
        (
            {"preset": "temporal and none", "exact": True, "text_scale": 1.0},
            g.temporal(0.5, g.last(4, exact=True), scale=1.2),
        ),
        ({"preset": "fractional", "level": 0.6, "text_scale": 1.0}, g.fractional(1.5, 0.6)),
        ({"preset": "three branches"}, g.magi()),
        (
            {"preset": "three branches", "text_scale": 2.5, "none_as": "pure noise"},
            g.magi(1.5, 2.5, g.NOISE),
        ),
        ({"preset": "vanilla", "none_as": "sink", "text_scale": 1.0}, g.vanilla(1.2, g.SINK)),
        (
            {"preset": "vanilla", "none_as": "sink", "text_scale": 1.0, "exact": True},
            g.vanilla(1.2, replace(g.SINK, exact=True)),
        ),
        (
            {"preset": "temporal", "short_share": 0.2, "short_frames": 2, "text_scale": 1.0},
            g.temporal(0.2, g.last(2)),
        ),
        ({"preset": "text only", "stabilise": 0.02}, g.stabilise(g.Guidance(), 0.02)),
    ],
)
def test_each_preset_is_its_sum(
    bench: Bench,
    inputs: dict[str, Any],
    expected: g.Guidance,
) -> None:
    made = of_demo(bench, HISTORY, **inputs)
    assert {(b.prompt, b.view): b.weight for b in made.branches} == pytest.approx(
        {(b.prompt, b.view): b.weight for b in expected.branches}
    )
    assert replace(made, branches=expected.branches) == expected


@pytest.mark.parametrize("name", ["scale", "text_scale"])
def test_a_tooltip_names_the_presets_that_do_not_use_a_strength(bench: Bench, name: str) -> None:
    from longtake.nodes.guidance.history_guidance import HistoryGuidance

    widgets = {each.id: each for each in HistoryGuidance.define_schema().inputs}
    [listed] = re.findall(r"Not used by (`.*?`)\.", widgets[name].tooltip)
    unused = [preset for preset in widgets["preset"].options
              if of_demo(bench, HISTORY, preset=preset, **{name: 3.0})
              == of_demo(bench, HISTORY, preset=preset, **{name: 4.0})]  # fmt: skip
    assert listed == " and ".join(f"`{preset}`" for preset in unused)


def test_nodes_chain_and_the_first_ones_text_guidance_is_the_only_one(
    bench: Bench,
) -> None:
    [text] = bench.run(HISTORY, preset="text only", text_scale=3.0)
    [both] = bench.run(HISTORY, preset="fractional", level=0.5, guidance=text)
    three = of_demo(
        bench, "LongtakeGuidanceTerm", weight=0.2, view="range", newest=2, oldest=5, guidance=both
    )
    weights = {(b.prompt, str(b.view)): pytest.approx(b.weight) for b in three.branches}
    assert weights == {
        ("positive", "all"): 2.8, ("negative", "all"): -2.0, ("positive", "all at noise 0.5"): 0.5,
        ("positive", "pure noise"): -0.5, ("positive", "2 to 5 back"): 0.2,
    }  # fmt: skip


def test_a_term_of_the_whole_history_under_the_negative_prompt_is_text_guidance(
    bench: Bench,
) -> None:
    made = of_demo(bench, "LongtakeGuidanceTerm", weight=-1.0, view="all", prompt="negative")
    assert made == g.cfg(2.0)


@pytest.mark.parametrize(
    ("inputs", "view"),
    [
        ({"view": "range", "oldest": 6}, g.View(g.AgeRange(1, 6))),
        ({"view": "range", "exact": True}, g.View(g.AgeRange(1, 4), exact=True)),
        ({"view": "range", "level": 0.3}, g.View(g.AgeRange(1, 4), 0.3)),
        ({"view": "all", "level": 0.6}, g.View(level=0.6)),
        ({"view": "sink"}, g.SINK),
        ({"view": "sink", "exact": True}, replace(g.SINK, exact=True)),
        ({"view": "nothing"}, g.DROP),
        ({"view": "pure noise"}, g.NOISE),
    ],
)
def test_a_terms_view_is_what_the_widgets_say(
    bench: Bench, inputs: dict[str, Any], view: g.View
) -> None:
    made = of_demo(bench, "LongtakeGuidanceTerm", weight=-0.5, **inputs)
    assert made == g.Guidance((g.Branch(1.5), g.Branch(-0.5, view=view)))


def test_a_term_may_have_a_prompt_of_its_own_that_the_report_names(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    clip = bench.run("LongtakeLoadDemoModel")[1]
    [line] = bench.run("LongtakePromptTimeline", clip=clip, text="a blue ball")
    encoded = clip.encode_from_tokens_scheduled(clip.tokenize("a blue ball"))
    [text] = bench.run(HISTORY, preset="text only", text_scale=2.0)
    given = {"weight": 0.5, "view": "all", "prompt": "negative", "guidance": text}
    wordless = [[encoded[0][0], {}]]  # as an encoder of another pack may give it
    made = [
        bench.run("LongtakeGuidanceTerm", **given, own_prompt=own)[0]
        for own in (line, encoded, wordless)
    ]
    assert made[0].resolve(DEMO, sink=False) == made[1].resolve(DEMO, sink=False)
    assert made[0].resolve(DEMO, sink=False) == made[2].resolve(DEMO, sink=False)
    assert caplog.text.count("0.5 x all, prompt 'a blue ball'") == 2
    assert "0.5 x all, own prompt" in caplog.text
    frames = bench.frames(guidance=made[0])
    assert "6 model evaluations per chunk (2 without guidance), including" in caplog.text
    assert [chunk.latents.model_evals for chunk in frames.chunks][-1] == 6
    used = frames.report([]).versions["guidance"]
    assert used.startswith("1.5 x all; -1 x all, negative prompt; 0.5 x all, prompt 'a blue ball'")


@pytest.mark.parametrize(
    ("node", "inputs", "words"),
    [
        ("LongtakeGuidanceTerm", {"newest": 5, "oldest": 2}, "newest is 5 and oldest 2, .*; set"),
        (HISTORY, {"from_level": 0.8, "to_level": 0.2}, "from_level is 0.8 and to_level 0.2, .*;"),
        (HISTORY, {"preset": "three branches", "to_level": 0.5}, "from_level is 0.7 and to_level"),
        (HISTORY, {"per_step": "1, nan"}, "per_step is '1, nan'; write numbers such as"),
        (HISTORY, {"per_step": "1e999"}, "per_step is '1e999'; write numbers such as"),
    ],
)
def test_values_that_do_not_go_together_are_refused_under_the_names_of_their_inputs(
    bench: Bench, node: str, inputs: dict[str, Any], words: str
) -> None:
    with pytest.raises(BadInput, match=words):
        bench.run(node, **inputs)


def test_own_prompts_that_cannot_be_used_are_refused(bench: Bench) -> None:
    clip = bench.run("LongtakeLoadDemoModel")[1]
    [lines] = bench.run("LongtakePromptTimeline", clip=clip, text="0: a red ball\n1: a blue ball")
    with pytest.raises(BadInput, match="own_prompt holds throughout the shot"):
        bench.run("LongtakeGuidanceTerm", own_prompt=lines)
    [wide] = bench.run("LongtakeGuidanceTerm", own_prompt=[[torch.ones(1, 6, 9), {}]])
    with pytest.raises(BadInput, match="9 wide, but the model takes 8"):
        bench.rollout(guidance=wide)


def with_options(chain: Any, **widgets: Any) -> Any:
    """A chain under options that a later node sets."""
    from longtake.nodes.guidance.options import read_options

    return chain.then(read_options(widgets))


def test_options_change_when_and_how_far_not_the_terms(bench: Bench) -> None:
    text = {"preset": "text only", "text_scale": 1.5}
    inputs = {"from_level": 0.7, "per_step": "1, 0.5", "norm_cap": 2.0, "one_at_a_time": True}
    assert of_demo(bench, HISTORY, **text, **inputs) == replace(
        g.cfg(1.5),
        timing=g.GuidanceTiming((0.7, 1.0), (1.0, 0.5)),
        limits=g.Limits(0.0, 2.0),
        in_one_pass=False,
    )
    with pytest.raises(BadInput, match="per_step is 'one'"):
        bench.run(HISTORY, **text, per_step="one")


def test_a_node_says_what_is_still_the_models(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    [guidance] = bench.run(HISTORY, preset="fractional")
    assert caplog.messages[-1].endswith(
        "text_scale and none_as come from the model; the sampler shows the value and the cost."
    )
    bench.run(HISTORY, preset="temporal and none")
    assert "scale, text_scale and none_as come from the model" in caplog.messages[-1]
    bench.run(HISTORY, preset="vanilla", text_scale=2.0, none_as="sink")
    assert "scale comes from the model" in caplog.messages[-1]
    bench.run("LongtakeGuidanceTerm", guidance=guidance)
    assert "text_scale and none_as come from the model" in caplog.messages[-1]
    bench.run(HISTORY, preset="three branches")
    assert caplog.messages[-1].endswith(
        "3 model evaluations a step: -0.5 x nothing, negative prompt; "
        "-6 x all, negative prompt; 7.5 x all."
    )


def test_the_sampler_says_the_cost_under_the_last_guidance_node(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A step of four branches, and two caches to fill: of each prompt the whole history's, out of
    which the others are cut.
    """
    from longtake.nodes import host

    said: list[tuple[str | None, str]] = []
    monkeypatch.setattr(host, "show_status", lambda node, text, *_: said.append((node, text)))
    set_ = {"scale": 1.5, "text_scale": 1.5, "none_as": "nothing"}
    [temporal] = bench.run(HISTORY, preset="temporal and none", **set_)
    made, _ = bench.rollout(guidance=temporal)
    told = dict(said)[HISTORY]
    assert told.startswith("4 model evaluations a step: ")
    assert "This shot: 6 model evaluations per chunk (2 without guidance), including" in told
    assert "from model" not in told
    config, dtype = made.model.config, made.model.dtype
    alone = planned_bytes(without_guidance(made.settings), config, dtype)
    more = planned_bytes(made.settings, config, dtype) - alone
    assert more > 0 and told.endswith(f"; +{more / 2**20:.1f} MB KV cache.")
    [early] = bench.run("LongtakeGuidanceTerm", guidance=temporal)
    [steered] = bench.run(
        "LongtakeScoreGuidance", guidance=early, score="motion", weight=1.0, least_motion=0.1
    )
    [nothing] = bench.run(HISTORY, preset="text only", text_scale=1.0)
    bench.rollout(guidance=nothing)
    assert dict(said)[HISTORY].endswith(": 1 x all. This shot: no extra cost.")
    for last, guidance in (("LongtakeGuidanceTerm", early), ("LongtakeScoreGuidance", steered)):
        said.clear()
        bench.rollout(guidance=guidance)
        assert "This shot: " in dict(said)[last] and HISTORY not in dict(said)
    [open_] = bench.run(HISTORY, preset="fractional")
    said.clear()
    bench.rollout(guidance=open_)
    assert dict(said)[HISTORY].endswith(
        "Settings: text_scale 1, none_as pure noise (from model: Longtake demo)."
    )


def test_options_leave_what_the_guidance_has_and_of_a_chain_the_last_that_is_set_wins(
    bench: Bench,
) -> None:
    [three] = bench.run(HISTORY, preset="three branches")
    assert with_options(three).resolve(DEMO, sink=False) == g.magi()
    bounded = with_options(three, norm_cap=2.0)
    assert bounded.resolve(DEMO, sink=False) == replace(g.magi(), limits=g.Limits(norm_cap=2.0))
    early = with_options(bounded, from_level=0.9, rescale=0.5)
    made = early.resolve(DEMO, sink=False)
    assert made.timing == g.GuidanceTiming((0.9, 1.0)) and made.limits == g.Limits(0.5, 2.0)
    saved = {
        "from_level": 0.0,
        "to_level": 1.0,
        "first_chunk": 1.0,
        "rescale": 0.0,
        "norm_cap": 0.0,
    }
    last = with_options(early, **saved).resolve(DEMO, sink=False)
    assert last == replace(g.magi(), timing=g.GuidanceTiming())
    with pytest.raises(BadInput, match="from_level is 0.7 and to_level 0.5"):
        bench.run(HISTORY, preset="three branches", to_level=0.5)


@pytest.mark.parametrize(
    ("widget", "expected"),
    [
        ({"from_level": 0.8}, {"timing": g.GuidanceTiming((0.8, 1.0), (0.5,), 0.5)}),
        ({"to_level": 0.9}, {"timing": g.GuidanceTiming((0.7, 0.9), (0.5,), 0.5)}),
        ({"per_step": "1，0.2"}, {"timing": g.GuidanceTiming((0.7, 1.0), (1.0, 0.2), 0.5)}),
        ({"first_chunk": 0.0}, {"timing": g.GuidanceTiming((0.7, 1.0), (0.5,), 0.0)}),
        ({"rescale": 0.0}, {"limits": g.Limits(0.0, 3.0)}),
        ({"norm_cap": 0.0}, {"limits": g.Limits(0.4, None)}),
        ({"one_at_a_time": True}, {"in_one_pass": False}),
    ],
)
def test_one_option_changes_that_alone(
    bench: Bench, widget: dict[str, Any], expected: dict[str, Any]
) -> None:
    first = {"per_step": "0.5", "first_chunk": 0.5, "rescale": 0.4, "norm_cap": 3.0}
    [before] = bench.run(HISTORY, preset="three branches", **first)
    made = with_options(before, **widget).resolve(DEMO, sink=False)
    assert made == replace(before.resolve(DEMO, sink=False), **expected)


def test_an_option_below_0_is_refused_by_what_minus_one_does(bench: Bench) -> None:
    with pytest.raises(BadInput, match=r"rescale is -0.5; set at least 0, or -1 to change nothing"):
        bench.run(HISTORY, rescale=-0.5)


def test_the_sampler_uses_it_says_what_it_costs_and_the_report_what_ran(
    bench: Bench,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO")
    [guidance] = bench.run(HISTORY, preset="temporal", text_scale=1.0)
    assert "2 model evaluations a step: 0.5 x all; 0.5 x last 4." in caplog.text
    frames = bench.frames(guidance=guidance, cfg=9.0)
    assert frames.rollout.settings.guidance == g.temporal(0.5)
    assert (
        "3 model evaluations per chunk (2 without guidance), including cache fills; no more KV "
        "cache." in caplog.text
    )
    evals = [chunk.latents.model_evals for chunk in frames.chunks]
    assert evals[-1] == 3
    used = frames.report([]).versions["guidance"]
    assert used.startswith("0.5 x all; 0.5 x last 4 (approximate: cut out of a longer history")


def test_a_sink_that_the_kv_cache_has_is_seen(bench: Bench) -> None:
    set_ = {"scale": 1.5, "none_as": "sink", "text_scale": 1.0}
    [guidance] = bench.run(HISTORY, preset="vanilla", **set_)
    [cache] = bench.run("LongtakeKVCacheSettings", window_frames=6, sink_frames=3)
    frames = bench.frames(guidance=guidance, kv_cache=cache)
    assert frames.rollout.settings.guidance == g.vanilla(1.5, g.SINK)
    assert all(chunk.frames.isfinite().all() for chunk in frames.chunks)


def test_a_window_too_short_for_the_guidance_is_said_before_the_run(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    [guidance] = bench.run(HISTORY, preset="temporal", text_scale=1.0)
    [cache] = bench.run("LongtakeKVCacheSettings", window_frames=3)
    bench.rollout(guidance=guidance, kv_cache=cache)
    assert "Guidance by last 4 changes nothing" in caplog.text
    assert "1 model evaluation a chunk instead" not in caplog.text


def test_a_sink_that_is_not_there_is_refused() -> None:
    with pytest.raises(BadInput, match="the KV cache has none; set sink_frames"), advising():
        settings(guidance=g.vanilla(1.5, g.SINK))
