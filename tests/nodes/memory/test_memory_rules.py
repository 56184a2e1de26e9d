"""Memory Rules under the stand-in host: what a user chooses, is told, and gets."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from longtake.attention.cache.policy import FullHistory, WindowSink
from longtake.attention.temp_cache.policy import TempCache
from longtake.errors import BadInput
from longtake.model.families.table import BY_KEY
from longtake.model.preset import DEMO
from longtake.model.preset_cache import preset_cache
from longtake.samplers.history.settings import CacheSettings
from longtake.samplers.rules.anchor import Anchor
from longtake.samplers.rules.memory import MemoryRules
from longtake.samplers.rules.positions import TopAligned
from longtake.samplers.rules.reading import FarReading, NewestFrames, PastWeight, RecencyBias
from longtake.tests.support.node_bench import Bench

RULES = "LongtakeMemoryRules"


def chosen(bench: Bench, **inputs: Any) -> CacheSettings:
    """What the node gives to the sampler of the demo."""
    [spec] = bench.run(RULES, **inputs)
    resolved = spec.resolve(DEMO)
    assert isinstance(resolved, CacheSettings)
    return resolved


def sparse_rollout(bench: Bench, kv_cache: Any) -> Any:
    """A rollout whose history is a TempCache."""
    model, clip, _ = bench.run("LongtakeLoadDemoModel")
    [sparse] = bench.run("LongtakeSparseAttention", model=model, temp_cache=True)
    [prompts] = bench.run("LongtakePromptTimeline", clip=clip, text="a red ball")
    size = {"width": 32, "height": 32, "length": 33.0, "length_unit": "frames"}
    [rollout] = bench.run(
        "LongtakeSampler", model=sparse, prompts=prompts, kv_cache=kv_cache, **size
    )
    return rollout


@pytest.mark.parametrize(
    ("inputs", "memory"),
    [
        ({}, MemoryRules()),
        ({"rules": "off"}, MemoryRules()),
        ({"rules": "custom"}, MemoryRules()),
        ({"rules": "off", "commit_sees": 3}, MemoryRules()),
        ({"rules": "commit forcing"}, MemoryRules(commit=NewestFrames())),
        ({"rules": "recency forcing"}, MemoryRules(recency=RecencyBias(4.0))),
        ({"rules": "custom", "commit_sees": 0}, MemoryRules(commit=NewestFrames(0))),
        ({"rules": "custom", "recency_depth": 2.0}, MemoryRules(recency=RecencyBias(2.0))),
        (
            {"rules": "custom", "near_frames": 9, "far_steps": 2, "far_layers": 0.5},
            MemoryRules(far=FarReading(9, 2, 0.5)),
        ),
        (
            {"rules": "custom", "near_frames": 9, "far_stride": 2, "far_share": 0.25},
            MemoryRules(far=FarReading(9, layer_stride=2, share=0.25)),
        ),
        (
            {"rules": "custom", "past_weight": 0.3, "past_chunks": 2},
            MemoryRules(past=PastWeight(0.3, 2)),
        ),
        (
            {"rules": "custom", "positions": "top-aligned"},
            MemoryRules(positions=TopAligned(64 + 3)),
        ),
    ],
    ids=str,
)
def test_the_widgets_are_the_rules(
    bench: Bench, inputs: dict[str, Any], memory: MemoryRules
) -> None:
    own = CacheSettings(preset_cache(DEMO), gives_way=True)
    assert chosen(bench, **inputs) == replace(own, memory=memory)


@pytest.mark.parametrize(
    ("inputs", "memory"),
    [
        ({}, MemoryRules(positions=TopAligned(21))),
        ({"rules": "off"}, MemoryRules()),
        ({"rules": "commit forcing"}, MemoryRules(NewestFrames(), positions=TopAligned(21))),
        ({"rules": "custom"}, MemoryRules(positions=TopAligned(21))),
        ({"rules": "custom", "positions": "top-aligned"}, MemoryRules(positions=TopAligned(21))),
        ({"rules": "custom", "positions": "contiguous"}, MemoryRules()),
    ],
    ids=str,
)
def test_what_a_model_was_trained_with_is_its_own_rule(
    bench: Bench, inputs: dict[str, Any], memory: MemoryRules
) -> None:
    """SGF's positions; a history that is no sink and window does without them."""
    [spec] = bench.run(RULES, **inputs)
    preset = BY_KEY["sgf"].preset
    assert spec.resolve(preset) == CacheSettings(WindowSink(9, 3), memory=memory, gives_way=True)
    is_own = inputs.get("rules") != "off" and "positions" not in inputs
    assert ("positions" in spec.values_from_preset(preset)) == is_own
    [whole] = bench.run("LongtakeKVCacheSettings", policy="full")
    assert whole.resolve(preset) == CacheSettings(FullHistory())
    [same] = bench.run("LongtakeKVCacheSettings")
    assert same.resolve(preset) == CacheSettings(
        WindowSink(9, 3), memory=MemoryRules(positions=TopAligned(21)), gives_way=True
    )


def test_the_history_is_that_of_the_connected_settings(bench: Bench) -> None:
    inputs = {"window_frames": 9, "sink_frames": 2, "prompt_switch": "re-cache"}
    [cache] = bench.run("LongtakeKVCacheSettings", policy="window + sink", **inputs)
    ruled = chosen(bench, kv_cache=cache, rules="commit forcing", anchor=0.5)
    rules = {"memory": MemoryRules(commit=NewestFrames()), "anchor": Anchor(0.5)}
    assert ruled == CacheSettings(WindowSink(9, 2), on_prompt_change="re-cache", **rules)
    [spec] = bench.run(RULES, kv_cache=cache)
    assert spec.values_from_preset(DEMO) == cache.values_from_preset(DEMO)


def test_a_picture_is_an_anchor(bench: Bench) -> None:
    samples = torch.randn(1, 16, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    anchor = chosen(bench, anchor=0.3, anchor_picture={"samples": samples}).anchor
    assert anchor is not None and anchor.target is not None and len(anchor.target.mean) == 16
    with pytest.raises(BadInput, match="latent of the anchor picture is from another kind"):
        bench.run(RULES, anchor=0.3, anchor_picture={"samples": torch.zeros(1, 4, 8, 8)})
    for factor, words in ((0.0, "is empty: all its values are zero"), (torch.nan, "is not finite")):
        with pytest.raises(BadInput, match=f"The latent of the anchor picture {words}"):
            bench.run(RULES, anchor=0.3, anchor_picture={"samples": factor * samples})


def test_an_anchor_picture_without_an_anchor_is_said_to_have_no_effect(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    picture = {"samples": torch.ones(1, 16, 1, 4, 4)}
    for anchor, warnings in ((0.3, []), (0.0, ["anchor_picture has no effect while anchor is 0."])):
        chosen(bench, anchor=anchor, anchor_picture=picture)
        assert [record.message for record in caplog.records] == warnings


def test_the_rules_reach_the_shot_and_its_plan(bench: Bench) -> None:
    [rules] = bench.run(RULES, rules="custom", commit_sees=0, near_frames=6, anchor=0.35)
    rollout, _ = bench.rollout(kv_cache=rules)
    settings = rollout.settings
    assert settings.memory == MemoryRules(commit=NewestFrames(0), far=FarReading(6))
    assert settings.anchor == Anchor(0.35)
    told = bench.frames(kv_cache=rules, plan_only=True).plan.text
    assert "a commit sees its chunk alone" in told
    assert "35% of the way to the first chunk of each prompt" in told


def test_a_shot_without_rules_is_told_none_and_has_the_same_addresses(bench: Bench) -> None:
    [off] = bench.run(RULES)
    (plain, _), (ruled, _) = bench.rollout(), bench.rollout(kv_cache=off)
    assert plain.spec.key(0) == ruled.spec.key(0)
    assert "Memory rules" not in bench.frames(kv_cache=off, plan_only=True).plan.text


def test_the_rules_stay_where_attention_keeps_a_temp_cache(bench: Bench) -> None:
    [rules] = bench.run(RULES, rules="recency forcing")
    settings = sparse_rollout(bench, rules).settings
    assert isinstance(settings.cache, TempCache)
    assert settings.memory == MemoryRules(recency=RecencyBias())


def test_top_aligned_positions_of_a_temp_cache_are_refused_with_what_to_do(bench: Bench) -> None:
    [rules] = bench.run(RULES, rules="custom", positions="top-aligned")
    with pytest.raises(BadInput, match="choose the positions `contiguous` in Memory Rules"):
        sparse_rollout(bench, rules)
