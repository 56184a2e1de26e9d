"""Left alone, schedule, KV cache and cfg are what the model's family was trained with."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from click.testing import CliRunner

from longtake.attention.cache.placed_windows import DistantSink, SharedWindow
from longtake.attention.cache.policy import (
    AveragingSink,
    FullHistory,
    RebuiltWindow,
    WindowSink,
)
from longtake.errors import BadInput
from longtake.headless.cli import main
from longtake.model.families.table import BY_KEY, FAMILIES
from longtake.model.preset import Preset
from longtake.model.preset_cache import preset_cache
from longtake.samplers import guidance as g
from longtake.samplers.guidance import cfg as guidance_by
from longtake.samplers.schedule.options import ScheduleOptions, preset_schedule, preset_solver
from longtake.samplers.schedule.rows import asynchronous, causal_chunks, pyramid
from longtake.samplers.settings import RolloutSettings
from longtake.samplers.solvers.noise_process import VariancePreserving
from longtake.samplers.solvers.single_step import DDIM
from longtake.tests.support.node_bench import Bench
from longtake.tests.support.nodes.steps import demo_as

RUNNABLE = [family.key for family in FAMILIES]


def shot(bench: Bench, model: Any, **inputs: Any) -> Any:
    """A rollout of 33 frames by the sampler, all else as it stands there."""
    clip = bench.run("LongtakeLoadDemoModel")[1]
    [prompts] = bench.run("LongtakePromptTimeline", clip=clip, text="0: a red ball")
    size = {"width": 32, "height": 32, "length": 33.0, "length_unit": "frames"}
    [rollout] = bench.run("LongtakeSampler", model=model, prompts=prompts, **{**size, **inputs})
    return rollout


def are_the_presets(settings: RolloutSettings, preset: Preset) -> None:
    """The settings are those of that preset."""
    assert settings.schedule == preset_schedule(preset)
    assert settings.solver == preset_solver(preset)
    assert settings.context_noise.level == preset.context_noise
    cache = preset_cache(preset)
    assert settings.cache == (cache if preset.drops_first_frame else cache.with_first())
    assert settings.guidance == guidance_by(preset.guidance_scale)


@pytest.mark.some_cases(15)
@pytest.mark.parametrize("key", RUNNABLE)
def test_nodes_left_alone_are_the_models_and_so_are_nodes_left_out(bench: Bench, key: str) -> None:
    model = demo_as(bench, key)
    [schedule], [cache] = bench.run("LongtakeSchedule"), bench.run("LongtakeKVCacheSettings")
    left_alone = shot(bench, model, schedule=schedule, kv_cache=cache)
    are_the_presets(left_alone.settings, BY_KEY[key].preset)
    assert shot(bench, model).spec.key(0) == left_alone.spec.key(0)


def test_a_shot_of_the_demo_that_was_set_by_hand_goes_on(bench: Bench) -> None:
    """The widgets of workflows saved when these numbers were the defaults."""
    model = demo_as(bench, "demo")
    [schedule] = bench.run(
        "LongtakeSchedule", chunk_frames=3, steps=8, shift=1.5, solver="euler", context_noise=0.0,
        schedule="causal chunks", first_steps=8,
    )  # fmt: skip
    [cache] = bench.run(
        "LongtakeKVCacheSettings", policy="window + recall by view", window_frames=21,
        sink_frames=0, recall_frames=9, archive_frames=600,
    )  # fmt: skip
    by_hand = shot(bench, model, schedule=schedule, kv_cache=cache, cfg=1.0)
    assert by_hand.spec.key(0) == shot(bench, model).spec.key(0)


@pytest.mark.each_value
@pytest.mark.parametrize(
    ("name", "value"),
    [("chunk_frames", 2), ("steps", 7), ("shift", 3.0), ("solver", "ddim"), ("solver", "euler"),
     ("context_noise", 0.1), ("context_noise", 0.0)],
)  # fmt: skip
@pytest.mark.parametrize("key", ["demo", "self-forcing", "causvid", "rolling-forcing",
                                 "causal-forcing-1step", "skyreels-df", "wan21-t2v"])  # fmt: skip
def test_one_widget_of_the_schedule_changes_that_alone(
    bench: Bench, key: str, name: str, value: Any
) -> None:
    wanted = replace(BY_KEY[key].preset, **{name: value})
    if name == "steps":
        wanted = replace(wanted, timesteps=(), first_timesteps=())
    [schedule] = bench.run("LongtakeSchedule", **{name: value})
    are_the_presets(shot(bench, demo_as(bench, key), schedule=schedule).settings, wanted)


@pytest.mark.parametrize(
    ("asked", "options"),
    [
        ({"schedule": "trapezoid", "stagger": 0.5}, {"kind": "trapezoid", "stagger": 0.5}),
        ({"schedule": "pyramid", "attention": "block-causal"},
         {"kind": "pyramid", "attention": "block-causal"}),
        ({"step_preset": "distilled 4, then 2 (Causal-Forcing)"},
         {"step_preset": "distilled 4, then 2 (Causal-Forcing)"}),
        ({"step_list": "1000, 400 | 1000"}, {"step_list": "1000, 400 | 1000"}),
    ],
)  # fmt: skip
def test_the_schedules_other_widgets_are_its_options(
    bench: Bench, asked: dict[str, Any], options: dict[str, Any]
) -> None:
    chosen = {"schedule": "causal chunks", "chunk_frames": 3, "shift": 2.0, "context_noise": 0.0}
    chosen |= {"steps": 4, "first_steps": 0, "solver": "euler"}
    [schedule] = bench.run("LongtakeSchedule", **{**chosen, **asked})
    made = shot(bench, demo_as(bench, "demo"), schedule=schedule).settings.schedule
    base = {"kind": "causal chunks", "chunk_frames": 3, "shift": 2.0, "steps": 4, "first_steps": 0}
    assert made == ScheduleOptions(**{**base, **options}).schedule()
    [plain] = bench.run("LongtakeSchedule", **chosen)
    assert made != shot(bench, demo_as(bench, "demo"), schedule=plain).settings.schedule


@pytest.mark.parametrize("predicts", ["epsilon", "v"])
def test_a_model_that_is_no_flow_gets_its_own_noise_schedule(bench: Bench, predicts: str) -> None:
    [schedule] = bench.run("LongtakeSchedule", solver="ancestral", predicts=predicts,
                           betas="sigmoid")  # fmt: skip
    made = shot(bench, demo_as(bench, "demo"), schedule=schedule).settings
    assert made.solver == DDIM(VariancePreserving("sigmoid"), predicts, eta=1.0)


@pytest.mark.parametrize(
    ("key", "asked", "policy"),
    [
        ("longlive", {"window_frames": 12}, DistantSink(12, 3)),
        ("longlive-infinity", {"window_frames": 12}, WindowSink(12, 3)),
        ("rolling-forcing", {"window_frames": 24}, SharedWindow(24, 3)),
        ("longlive", {"sink_frames": 0}, WindowSink(9, 0)),
        ("reward-forcing", {"window_frames": 8}, AveragingSink(8, 3, 0.999)),
        ("reward-forcing", {"sink_frames": 0}, WindowSink(6, 0)),
        ("krea-realtime", {"window_frames": 6}, RebuiltWindow(6, 0)),
        ("wan21-t2v", {"window_frames": 6}, WindowSink(6, 0)),
        ("longlive", {"policy": "rebuilt window"}, RebuiltWindow(9, 3)),
        ("longlive", {"policy": "full"}, FullHistory()),
        ("self-forcing", {"policy": "window + EMA sink"}, AveragingSink(18, 3)),
    ],
)
def test_one_widget_of_the_cache_changes_that_alone(
    bench: Bench, key: str, asked: dict[str, Any], policy: object
) -> None:
    [cache] = bench.run("LongtakeKVCacheSettings", first_latent="leave", **asked)
    assert shot(bench, demo_as(bench, key), kv_cache=cache).settings.cache == policy


def test_another_kind_of_schedule_keeps_the_models_steps() -> None:
    preset = BY_KEY["self-forcing"].preset
    ladder = preset_schedule(preset).ladder
    assert ScheduleOptions("pyramid").schedule(preset) == pyramid(ladder, 2.0)
    skyreels = BY_KEY["skyreels-df"].preset
    staggered = ScheduleOptions("asynchronous (SkyReels-V2)", stagger=5).schedule(skyreels)
    assert staggered == asynchronous(preset_schedule(skyreels).ladder, 5, 5)
    opened = ScheduleOptions("causal chunks").schedule(BY_KEY["causal-forcing-1step"].preset)
    assert (len(opened.first_ladder), len(opened.ladder)) == (5, 2)


def test_chunks_of_a_model_that_makes_everything_at_once_want_a_number() -> None:
    plain = BY_KEY["wan21-t2v"].preset
    with pytest.raises(BadInput, match="makes 21 latent frames at once; .* set it to 1 to 8"):
        ScheduleOptions("causal chunks").schedule(plain)
    made = ScheduleOptions("causal chunks", chunk_frames=3).schedule(plain)
    assert made == causal_chunks(preset_schedule(plain).ladder, 3)


@pytest.mark.parametrize(
    ("key", "asked", "complaint"),
    [
        ("wan21-t2v", {"policy": "window + sink"}, "sees the full history; set a number"),
        ("longlive", {"window_frames": 3}, "sink_frames is 3 and window_frames 3; "),
        ("longlive", {"window_frames": 2}, "window_frames is 2 and its sink 3"),
        ("longlive", {"sink_frames": 9}, "sink_frames is 9 and window_frames 9"),
    ],
)
def test_a_window_that_the_model_makes_impossible_is_one_sentence(
    bench: Bench, key: str, asked: dict[str, Any], complaint: str
) -> None:
    [cache] = bench.run("LongtakeKVCacheSettings", **asked)
    with pytest.raises(BadInput, match=complaint):
        shot(bench, demo_as(bench, key), kv_cache=cache)


def test_what_the_model_decided_is_said_by_the_sampler_and_in_the_report(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    from longtake.nodes import host

    said: list[str] = []
    monkeypatch.setattr(host, "show_status", lambda node, text, *_: said.append(text))
    [schedule] = bench.run("LongtakeSchedule", steps=2)
    said.clear()
    rollout = shot(bench, demo_as(bench, "longlive"), schedule=schedule, seed=3)
    sentence = (
        "Settings: schedule causal chunks, chunk_frames 3, shift 5, "
        "first_steps 0, solver re-noise, context_noise 0, policy window + sink at its true "
        "distance, window_frames 9, "
        "sink_frames 3, cfg 1 (from model: LongLive 1.0)."
    )
    assert said[-1].endswith(f" {sentence}") and said[-1].count("from model") == 1
    [frames] = bench.run("LongtakeVAEDecode", rollout=rollout,
                         vae=bench.run("LongtakeLoadDemoModel")[2])  # fmt: skip
    bench.run("LongtakeSaveVideo", frames=frames)
    [report] = bench.state.folders["output"].rglob("*report.json")
    assert json.loads(report.read_text())["versions"]["from_model"] == sentence


def test_nothing_is_said_of_the_model_where_everything_is_set(bench: Bench) -> None:
    [schedule] = bench.run(
        "LongtakeSchedule", chunk_frames=3, steps=1, shift=2.0, solver="euler", context_noise=0.0,
        schedule="causal chunks", first_steps=0,
    )  # fmt: skip
    [cache] = bench.run("LongtakeKVCacheSettings", policy="window + sink", window_frames=6,
                        sink_frames=0)  # fmt: skip
    model = demo_as(bench, "longlive")
    assert (
        shot(bench, model, schedule=schedule, kv_cache=cache, cfg=1.0).provenance.from_model == ""
    )
    assert "cfg 1 (" in shot(bench, model, schedule=schedule, kv_cache=cache).provenance.from_model
    [guided] = bench.run("LongtakeHistoryGuidance")
    assert "cfg" not in shot(bench, model, guidance=guided).provenance.from_model


@pytest.mark.parametrize(
    ("key", "text_scale", "none"),
    [("demo", 1.0, "pure noise"), ("skyreels-df", 6.0, "pure noise"),
     ("causvid", 1.0, "pure noise"), ("longlive", 1.0, "sink"), ("rolling-forcing", 1.0, "sink"),
     ("self-forcing", 1.0, "sink"),
     ("krea-realtime", 1.0, "sink"), ("reward-forcing", 1.0, "sink"), ("memflow", 1.0, "sink"),
     ("wan21-t2v", 5.0, "nothing")],
)  # fmt: skip
def test_history_guidance_left_alone_is_what_suits_the_model(
    bench: Bench, key: str, text_scale: float, none: str
) -> None:
    model = demo_as(bench, key)
    [chained] = bench.run("LongtakeHistoryGuidance", preset="vanilla", norm_cap=2.0)
    rollout = shot(bench, model, guidance=chained)
    view = {"pure noise": g.NOISE, "sink": g.SINK, "nothing": g.DROP}[none]
    scale = 1.2 if key == "demo" else 1.5  # what the bench found, and what is published
    wanted = g.extend(g.cfg(text_scale), g.vanilla(scale, view))
    assert rollout.settings.guidance == replace(wanted, limits=g.Limits(norm_cap=2.0))
    own = f", scale {scale:g}, text_scale {text_scale:g}, none_as {none} (from model: "
    assert own in rollout.provenance.from_model
    assert rollout.spec.guided(0.5) == rollout.settings.guidance.scale_by(0.5)


def test_no_history_is_the_sink_where_the_user_set_one(bench: Bench) -> None:
    model = demo_as(bench, "causal-forcing")
    [guidance] = bench.run("LongtakeHistoryGuidance", preset="fractional")
    for asked, view in (({"sink_frames": 3}, g.SINK), ({"first_latent": "leave"}, g.DROP)):
        [cache] = bench.run("LongtakeKVCacheSettings", **asked)
        made = shot(bench, model, kv_cache=cache, guidance=guidance).settings.guidance
        assert made == g.fractional(1.5, 0.75, view)
    [sink] = bench.run("LongtakeHistoryGuidance", preset="vanilla", none_as="sink")
    said = "the KV cache has none; set sink_frames .* another none_as in .* another view in Guid"
    for guided in (sink, bench.run("LongtakeGuidanceTerm", view="sink")[0]):
        with pytest.raises(BadInput, match=said):
            shot(bench, model, kv_cache=cache, guidance=guided)


def test_what_is_set_or_published_is_the_same_for_every_model(bench: Bench) -> None:
    """Workflows saved when 1.5, 2.5 and pure noise were the defaults, and MAGI's sum."""
    saved = {"preset": "vanilla", "scale": 1.5, "text_scale": 2.5, "none_as": "pure noise"}
    for inputs, wanted in (
        (saved, g.extend(g.cfg(2.5), g.vanilla(1.5))), ({"preset": "three branches"}, g.magi())
    ):  # fmt: skip
        [guidance] = bench.run("LongtakeHistoryGuidance", **inputs)
        for key in ("demo", "longlive", "wan21-t2v"):
            made = shot(bench, demo_as(bench, key), guidance=guidance)
            assert made.settings.guidance == wanted
            assert (
                "scale" not in made.provenance.from_model
                and "none_as" not in made.provenance.from_model
            )


SCALE = "set text_scale of History Guidance to 1"
OTHER = "choose another preset than `vanilla with text`"
TERM = "set prompt of Guidance Term to positive"


@pytest.mark.parametrize(
    ("inputs", "scale", "remedy"),
    [({}, None, ""), ({"text_scale": 2.5}, "2.5", SCALE),
     ({"preset": "three branches"}, "7.5", SCALE),
     ({"preset": "vanilla with text", "scale": 1.2}, "1.2", OTHER),
     ({"preset": "vanilla with text", "scale": 1.2, "text_scale": 6.0}, "1.2", OTHER),
     ({"preset": "three branches", "text_scale": 1.0}, None, "")],
)  # fmt: skip
def test_text_guidance_of_a_distilled_model_is_warned_of_wherever_it_comes_from(
    bench: Bench,
    caplog: pytest.LogCaptureFixture,
    inputs: dict[str, Any],
    scale: str | None,
    remedy: str,
) -> None:
    [guidance] = bench.run("LongtakeHistoryGuidance", **inputs)
    shot(bench, demo_as(bench, "longlive"), guidance=guidance)
    warned = [one.message for one in caplog.records if "is distilled" in one.message]
    assert len(warned) == (scale is not None)
    for text in warned:
        assert f"trained for cfg 1; text guidance of {scale} takes more time" in text
        assert text.endswith(f"exaggerates contrast; {remedy}.")


def test_text_guidance_of_a_guidance_term_is_warned_of_there(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    history = bench.run("LongtakeHistoryGuidance", text_scale=2.0)[0]
    for before, remedy in ((None, TERM), (history, f"{SCALE} and {TERM}")):
        caplog.clear()
        [guidance] = bench.run(
            "LongtakeGuidanceTerm", weight=-1.0, prompt="negative", guidance=before
        )
        shot(bench, demo_as(bench, "longlive"), guidance=guidance)
        [text] = [one.message for one in caplog.records if "is distilled" in one.message]
        assert text.endswith(f"; {remedy}.")


def test_the_schedule_is_drawn_as_soon_as_it_is_known(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    from longtake.nodes import host

    said: list[str] = []
    monkeypatch.setattr(host, "show_status", lambda node, text, *_: said.append(text))
    assert bench.shown("LongtakeSchedule") is None
    assert said[-1].endswith("connect `model` here to see them.")
    with_model = bench.shown("LongtakeSchedule", model=demo_as(bench, "causal-forcing-1step"))
    assert len(with_model["longtake_picture"]) == 1
    assert said[-1].startswith("Settings: schedule causal chunks, ")
    assert " (from model: Causal Forcing++ framewise, 1 step). 15 evaluations for 12 la" in said[-1]
    assert " latent frames, at most 1 active at once; the first" in said[-1]
    explicit = {"chunk_frames": 3, "steps": 4, "shift": 2.0, "solver": "euler", "first_steps": 0,
                "context_noise": 0.0, "schedule": "causal chunks"}  # fmt: skip
    assert len(bench.shown("LongtakeSchedule", **explicit)["longtake_picture"]) == 1
    assert said[-1].endswith("the first 3 are clean after 4.")


@pytest.mark.parametrize("key", ["demo", "causal-forcing-2step", "rolling-forcing", "wan21-t2v"])
def test_the_command_takes_a_family(key: str) -> None:
    preset = BY_KEY[key].preset
    result = CliRunner().invoke(main, ["schedule", "--family", key, "--frames", "21"])
    rows = len(list(preset_schedule(preset).rows(0, 21)))
    assert result.exit_code == 0, result.output
    assert f": {rows} evaluations for 21 latent frames" in result.output
    assert key != "demo" or result.output.startswith("causal chunks: ")


def test_a_warning_leaves_what_the_model_decided_under_the_node(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from longtake.nodes.host import progress

    shown: list[str] = []
    monkeypatch.setattr(progress, "show_text", lambda node, text: shown.append(text))
    shot(bench, demo_as(bench, "longlive"))  # at 32x32, which it was not trained at
    first, *rest = shown[-1].splitlines()
    assert first.startswith("Warning: LongLive 1.0 was trained at 832x480")
    assert "(from model: LongLive 1.0)." in "".join(rest)
    assert [one.message for one in caplog.records if one.levelname == "WARNING"] == [
        first.removeprefix("Warning: ")
    ]


@pytest.mark.parametrize(
    ("node_id", "name"),
    [
        ("LongtakeSampler", "cfg"),
        ("LongtakeHistoryGuidance", "scale"),
        ("LongtakeHistoryGuidance", "text_scale"),
        ("LongtakeSchedule", "context_noise"),
    ],
)
def test_only_minus_one_is_from_the_model(bench: Bench, node_id: str, name: str) -> None:
    with pytest.raises(BadInput, match=f"{name} is -0.5; set at least 0, or -1 for the model's"):
        if node_id == "LongtakeSampler":
            shot(bench, demo_as(bench, RUNNABLE[0]), cfg=-0.5)
        else:
            bench.run(node_id, **{name: -0.5})
