"""The demo's own memory, and the settings beside which a plain window takes its place."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from longtake.attention.cache.policy import WindowSink
from longtake.attention.recall.window import RecallWindow
from longtake.attention.temp_cache.policy import TempCache
from longtake.errors import BadInput
from longtake.model.preset import DEMO
from longtake.model.preset_cache import preset_cache
from longtake.tests.support.node_bench import Bench

RECALL = RecallWindow(21, 0, 9, archive_frames=600, flat_world=True, only_new_views=True)
TAKES_ITS_PLACE = "a plain window takes its place"


def settings_of(rollout: Any) -> Any:
    return rollout.spec.settings


def test_the_demo_fetches_past_frames_by_view() -> None:
    assert preset_cache(DEMO) == RECALL


def test_left_alone_the_shot_has_the_models_memory(bench: Bench) -> None:
    rollout, _ = bench.rollout()
    assert settings_of(rollout).cache == RECALL
    assert TAKES_ITS_PLACE not in rollout.plan.text


def test_a_shorter_window_keeps_the_share_that_is_fetched(bench: Bench) -> None:
    [cache] = bench.run("LongtakeKVCacheSettings", window_frames=7)
    rollout, _ = bench.rollout(kv_cache=cache)
    assert settings_of(rollout).cache == replace(RECALL, window_frames=7, recall_frames=3)


def test_its_numbers_may_be_set_alone(bench: Bench) -> None:
    [cache] = bench.run("LongtakeKVCacheSettings", recall_frames=6, archive_frames=60)
    rollout, _ = bench.rollout(kv_cache=cache)
    assert settings_of(rollout).cache == replace(RECALL, recall_frames=6, archive_frames=60)


@pytest.mark.parametrize("by_settings_from_model", [False, True])
def test_a_plain_window_takes_its_place_beside_exact_views(
    bench: Bench, by_settings_from_model: bool
) -> None:
    [guidance] = bench.run("LongtakeHistoryGuidance", preset="temporal", exact=True)
    inputs = {"guidance": guidance}
    if by_settings_from_model:
        [model, *_] = bench.run("LongtakeLoadDemoModel")
        inputs["kv_cache"] = bench.run("LongtakeModelSettings", model=model)[1]
    rollout, _ = bench.rollout(**inputs)
    assert any(branch.view.rebuilt for branch in settings_of(rollout).guidance.branches)
    assert settings_of(rollout).cache == WindowSink(12)
    assert TAKES_ITS_PLACE in rollout.plan.text


def test_a_plain_window_takes_its_place_where_prompts_commit_again(bench: Bench) -> None:
    [cache] = bench.run("LongtakeKVCacheSettings", prompt_switch="re-cache")
    rollout, _ = bench.rollout(kv_cache=cache)
    assert settings_of(rollout).cache == WindowSink(12)
    assert f"does not go with prompt_switch re-cache; {TAKES_ITS_PLACE}" in rollout.plan.text


def test_the_plan_names_every_setting_that_it_does_not_go_with(bench: Bench) -> None:
    [cache] = bench.run("LongtakeKVCacheSettings", prompt_switch="re-cache")
    [guidance] = bench.run("LongtakeHistoryGuidance", preset="temporal", exact=True)
    rollout, _ = bench.rollout(kv_cache=cache, guidance=guidance)
    both = "prompt_switch re-cache and an exact view of the guidance"
    assert f"does not go with {both}; {TAKES_ITS_PLACE}" in rollout.plan.text


def test_a_memory_that_the_user_chose_never_gives_way(bench: Bench) -> None:
    [cache] = bench.run(
        "LongtakeKVCacheSettings", policy="window + recall by view", prompt_switch="re-cache"
    )
    with pytest.raises(BadInput, match="recalls latent frames as they were committed"):
        bench.rollout(kv_cache=cache)


def test_a_temp_cache_replaces_it(bench: Bench) -> None:
    [model, clip, _] = bench.run("LongtakeLoadDemoModel")
    [sparse] = bench.run("LongtakeSparseAttention", model=model, temp_cache=True)
    [prompts] = bench.run("LongtakePromptTimeline", clip=clip, text="a red ball")
    [rollout] = bench.run(
        "LongtakeSampler", model=sparse, prompts=prompts, width=32, height=32, length=33.0,
        length_unit="frames",
    )  # fmt: skip
    assert isinstance(settings_of(rollout).cache, TempCache)
