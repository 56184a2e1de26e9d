"""Feature Caching (Stream) under the stand-in: what it sets, what users are told."""

from __future__ import annotations

from typing import Any

import pytest

from longtake.errors import BadInput
from longtake.model.preset import DEMO
from longtake.samplers.feature_caching import FeatureCaching
from longtake.tests.support.node_bench import Bench

CACHING = "LongtakeFeatureCaching"


def rollout(bench: Bench, steps: int, **limits: Any) -> Any:
    """A short shot of the demo whose schedule passes the node."""
    model, clip, _ = bench.run("LongtakeLoadDemoModel")
    [prompts] = bench.run("LongtakePromptTimeline", clip=clip, text="a red ball")
    [schedule] = bench.run("LongtakeSchedule", steps=steps, first_steps=0)
    [cached] = bench.run(CACHING, schedule=schedule, **limits)
    size = {"width": 32, "height": 32, "length": 9.0, "length_unit": "frames"}
    [shot] = bench.run("LongtakeSampler", model=model, prompts=prompts, schedule=cached, **size)
    return shot


def frames_of(bench: Bench, shot: Any) -> Any:
    _, _, vae = bench.run("LongtakeLoadDemoModel")
    return bench.run("LongtakeVAEDecode", rollout=shot, vae=vae)[0]


def report_of(bench: Bench, shot: Any) -> Any:
    """The report of the shot after all of its chunks."""
    frames = frames_of(bench, shot)
    list(frames.chunks)
    return frames.report([])


def test_it_adds_caching_to_either_kind_of_schedule(bench: Bench) -> None:
    [own] = bench.run("LongtakeSchedule", steps=8)
    model, _, _ = bench.run("LongtakeLoadDemoModel")
    preset, *_ = bench.run("LongtakeModelSettings", model=model)
    for schedule in (own, preset):
        [cached] = bench.run(CACHING, schedule=schedule, threshold=0.2, first_steps=3)
        assert cached.resolve(DEMO).feature_caching == FeatureCaching(0.2, 3)
        [off] = bench.run(CACHING, schedule=cached, threshold=0.0)
        assert off.resolve(DEMO) == schedule.resolve(DEMO)


def test_the_plan_and_the_report_tell_what_it_saves(bench: Bench) -> None:
    shot = rollout(bench, steps=8, threshold=1.0)
    assert "replaces up to 6 of the 8 steps" in shot.plan.text
    report = report_of(bench, shot)
    said = report.versions["feature_caching"]
    computed = report.model_evals
    assert said.startswith("threshold 1: ") and "0 of" not in said
    assert said.split(" of ")[1].startswith(f"{computed + int(said.split()[2])} ")


def test_without_it_the_report_says_nothing(bench: Bench) -> None:
    assert "feature_caching" not in report_of(bench, rollout(bench, 4, threshold=0.0)).versions


def test_few_steps_are_told_that_it_saves_nothing(bench: Bench) -> None:
    shot = rollout(bench, steps=2, threshold=0.1)
    assert "saves nothing here" in shot.plan.text


def test_a_threshold_outside_its_range_is_refused(bench: Bench) -> None:
    [schedule] = bench.run("LongtakeSchedule", steps=8)
    with pytest.raises(BadInput, match="threshold is 2; set a number from 0 to 1"):
        bench.run(CACHING, schedule=schedule, threshold=2.0)


def test_the_time_of_a_generator_is_remembered_apart_for_each_caching(bench: Bench) -> None:
    from longtake.nodes.stages.stage_frames import _key

    shots = (rollout(bench, steps=8, threshold=threshold) for threshold in (0.0, 0.1, 0.2))
    assert len({_key(frames_of(bench, shot)) for shot in shots}) == 3
