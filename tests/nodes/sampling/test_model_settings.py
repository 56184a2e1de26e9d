"""Settings From Model: what a family was trained with, each of it to be set otherwise, and said."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import save_file

from longtake.attention.cache.placed_windows import DistantSink
from longtake.attention.cache.policy import (
    AveragingSink,
    FullHistory,
    RebuiltWindow,
)
from longtake.errors import BadInput
from longtake.model.families.table import BY_KEY, FAMILIES
from longtake.model.preset_cache import preset_cache
from longtake.samplers.schedule.options import preset_schedule, preset_solver
from longtake.tests.support.node_bench import Bench
from longtake.tests.support.nodes.steps import demo_as

NODE = "LongtakeModelSettings"


@pytest.mark.parametrize("key", [family.key for family in FAMILIES])
def test_untouched_every_value_is_the_models(bench: Bench, key: str) -> None:
    schedule, cache, cfg, width, height = bench.run(NODE, model=demo_as(bench, key))
    preset = BY_KEY[key].preset
    assert schedule.schedule == preset_schedule(preset) and cache.policy == preset_cache(preset)
    assert schedule.solver == preset_solver(preset)
    assert schedule.context_noise.level == preset.context_noise
    assert (cfg, width, height) == (preset.guidance_scale, preset.width, preset.height)


@pytest.mark.each_value
@pytest.mark.parametrize(
    ("name", "value"),
    [("chunk_frames", 2), ("steps", 7), ("shift", 3.0), ("context_noise", 0.1), ("solver", "ddim"),
     ("window_frames", 12), ("sink_frames", 2), ("guidance_scale", 3.5), ("context_noise", 0.0),
     ("window_frames", 0), ("sink_frames", 0)],
)  # fmt: skip
@pytest.mark.parametrize("key", ["self-forcing", "longlive", "reward-forcing", "krea-realtime",
                                 "causvid", "skyreels-df", "wan21-t2v"])  # fmt: skip
def test_every_value_can_be_set_otherwise_and_no_other_changes(
    bench: Bench, key: str, name: str, value: Any
) -> None:
    own = BY_KEY[key].preset
    wanted = replace(own, **{name: value})
    if name == "steps":
        wanted = replace(wanted, timesteps=(), first_timesteps=())
    if name in ("window_frames", "sink_frames") and value == 0:
        wanted = replace(wanted, sink_decay=0.0)
    made = {"window_frames": wanted.window_frames, "sink_frames": wanted.sink_frames}
    if 0 < made["window_frames"] < made["sink_frames"]:
        pytest.skip("such a window is refused")
    schedule, cache, cfg, _, _ = bench.run(NODE, model=demo_as(bench, key), **{name: value})
    assert schedule.schedule == preset_schedule(wanted) and cache.policy == preset_cache(wanted)
    assert schedule.solver == preset_solver(wanted)
    assert schedule.context_noise.level == wanted.context_noise and cfg == wanted.guidance_scale


def test_families_with_a_cache_of_their_own_get_it(bench: Bench) -> None:
    found = {key: bench.run(NODE, model=demo_as(bench, key))[1].policy
             for key in ("reward-forcing", "krea-realtime", "longlive", "wan21-t2v")}  # fmt: skip
    assert found == {
        "reward-forcing": AveragingSink(6, 3, 0.999), "krea-realtime": RebuiltWindow(3, 0),
        "longlive": DistantSink(9, 3), "wan21-t2v": FullHistory(),
    }  # fmt: skip


@pytest.mark.parametrize("name", ["context_noise", "guidance_scale"])
def test_a_value_between_minus_one_and_0_is_refused_and_not_reported(
    bench: Bench, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    with (
        caplog.at_level("INFO", "longtake"),
        pytest.raises(BadInput, match=rf"{name} is -0.45; set at least 0, or -1 for the model's"),
    ):
        bench.run(NODE, model=demo_as(bench, "self-forcing"), **{name: -0.45})
    assert "Changed" not in caplog.text


def test_a_window_smaller_than_its_sink_is_refused(bench: Bench) -> None:
    with pytest.raises(BadInput, match="window_frames is 2 and its sink 3"):
        bench.run(NODE, model=demo_as(bench, "longlive"), window_frames=2)


@pytest.mark.parametrize("key", ["self-forcing", "causal-forcing-framewise", "longlive"])
def test_what_was_assumed_is_said_in_the_node_and_in_the_report(
    bench: Bench, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from longtake.nodes import host

    said: list[str] = []
    monkeypatch.setattr(host, "show_status", lambda node, text, *_: said.append(text))
    model = demo_as(bench, key)
    schedule, cache, cfg, _, _ = bench.run(NODE, model=model, shift=2.5)
    title = BY_KEY[key].title
    assert said == [f"{title}: by its name. Changed: shift 2.5 (from model: 5.0)."]
    _, clip, vae = bench.run("LongtakeLoadDemoModel")
    [prompts] = bench.run("LongtakePromptTimeline", clip=clip, text="0: a red ball")
    [rollout] = bench.run("LongtakeSampler", model=model, prompts=prompts, schedule=schedule,
                          kv_cache=cache, cfg=cfg, width=32, height=32, length=9.0,
                          length_unit="frames")  # fmt: skip
    [frames] = bench.run("LongtakeVAEDecode", rollout=rollout, vae=vae)
    bench.run("LongtakeSaveVideo", frames=frames)
    [report] = bench.state.folders["output"].rglob("*report.json")
    assert json.loads(report.read_text())["versions"]["model"] == f"{title}: by its name"


def test_a_file_names_its_family_and_why(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the file itself, by Load Causal Video Model."""
    from longtake.nodes import host
    from longtake.tests.support.model.family_files import state

    (tmp_path / "models" / "diffusion_models").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    save_file(state(), Path("models/diffusion_models/rewardforcing.safetensors"))
    [model] = bench.run("LongtakeLoadModel", model_name="rewardforcing.safetensors")
    said: list[str] = []
    monkeypatch.setattr(host, "show_status", lambda node, text, *_: said.append(text))
    cache = bench.run(NODE, model=model)[1]
    assert cache.policy == AveragingSink(6, 3, 0.999)
    assert said[0].startswith("Reward Forcing: ") and "name" in said[0]
