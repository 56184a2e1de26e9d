"""What stands under the nodes and in the report of a shot with TempCache is what is in force."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from longtake.attention.cache.policy import WindowSink
from longtake.attention.sparse.settings import SparseCross, SparseSelf, Sparsity
from longtake.attention.temp_cache.policy import REDUNDANT, TempCache
from longtake.errors import BadInput
from longtake.model.families.table import BY_KEY
from longtake.samplers.history.settings import CacheSettings
from longtake.tests.support.node_bench import Bench
from longtake.tests.support.tiny_model import settings

CPU = torch.device("cpu")


def planned(
    bench: Bench, kept: dict[str, Any] | None = None, guided: dict[str, Any] | None = None,
    **inputs: Any,
) -> Any:  # fmt: skip
    """The plan of a shot of more latent frames than `balanced` has entries for, with TempCache;
    `kept` None is without KV Cache Settings.
    """
    model, clip, _ = bench.run("LongtakeLoadDemoModel")
    [model] = bench.run("LongtakeSparseAttention", model=model, temp_cache=True, **inputs)
    [prompts] = bench.run("LongtakePromptTimeline", clip=clip, text="a red ball")
    more = {}
    if kept is not None:
        [more["kv_cache"]] = bench.run("LongtakeKVCacheSettings", **kept)
    if guided is not None:
        more["guidance"] = bench.run("LongtakeHistoryGuidance", **guided)[0]
    [rollout] = bench.run(
        "LongtakeSampler", model=model, prompts=prompts, width=32, height=32, length=241.0,
        length_unit="frames", plan_only=True, **more,
    )  # fmt: skip
    return rollout


def test_the_cache_in_force_is_named_and_the_models_own_window_is_not(bench: Bench) -> None:
    rollout = planned(bench)
    assert (
        "window" not in rollout.provenance.from_model
        and "sink" not in rollout.provenance.from_model
    )
    assert rollout.plan.text.endswith(
        "TempCache: entries for 48 latent frames, 3 of them a sink, reach 64, keeps what differs."
    )


def test_a_budget_is_said_of_entries_as_they_were_asked_for(bench: Bench) -> None:
    roomy = planned(bench, {"budget_gb": 5.0})
    assert "The entries for 48 latent frames fit the KV cache budget of 5.0 GB." in roomy.plan.text
    half = planned(bench, {"budget_gb": roomy.kv_bytes_planned / 2**31})
    kept = half.settings.cache.limit
    assert 3 < kept < 48 and half.kv_bytes_planned <= roomy.kv_bytes_planned / 2
    assert f"MB allows entries for {kept} latent frames." in half.plan.text


def test_the_index_of_a_loaded_shot_that_merges_is_named() -> None:
    from longtake.nodes.attention.describe import describe_attention

    merges = settings(cache=TempCache(5, index="lsh"))
    assert describe_attention(merges, CPU).endswith("merges like keys. Nearest keys by lsh.")


def test_what_is_told_goes_by_settings_and_device_alone(bench: Bench) -> None:
    from longtake.nodes.attention.describe import describe_attention

    assert describe_attention(settings(), CPU) == ""
    sparse = settings(
        cache=TempCache(5, eviction=REDUNDANT), sparsity=Sparsity(SparseSelf(min_keys=0))
    )
    assert describe_attention(sparse, CPU) == (
        "TempCache: entries for 5 latent frames, 0 of them a sink, reach any distance, keeps what "
        "differs. Sparse self-attention: as requested. Kernel gathered: no committed result shows "
        "another kernel to be faster on cpu."
    )
    prompt = settings(sparsity=Sparsity(None, SparseCross()))
    assert describe_attention(prompt, torch.device("mps")).startswith(
        "Prompt padding: dense, since no"
    )


def test_guidance_may_look_at_the_sink_that_temp_cache_has(bench: Bench) -> None:
    """Over a window without one."""
    kept = {"sink_frames": 0, "first_latent": "leave"}
    rollout = planned(bench, kept, {"preset": "vanilla", "none_as": "sink"})
    assert rollout.settings.cache.sink_frames == 3


def policy(key: str, window: int, *, preset: str = "fast", reach: int = 0) -> Any:
    """The TempCache of a model family's preset in place of a window."""
    from longtake.nodes.attention.attention_spec import PRESETS, SparseAttentionSpec

    node = SparseAttentionSpec(True, Sparsity(), PRESETS[preset], CPU, reach)
    return node.over(CacheSettings(WindowSink(window)), BY_KEY[key].preset).policy


@pytest.mark.usefixtures("bench")
def test_the_reach_is_what_the_model_was_trained_to_look_back() -> None:
    """Unless another is asked for, or the window is longer."""
    for key, window, asked, expected in (
        ("demo", 21, 0, 64), ("demo", 21, 30, 30), ("demo", 99, 0, 99),
        ("self-forcing", 18, 0, 18), ("self-forcing", 5, 0, 18), ("wan21-t2v", 9, 0, 21),
    ):  # fmt: skip
        assert policy(key, window, reach=asked).reach_frames == expected


@pytest.mark.usefixtures("bench")
def test_entries_are_a_share_of_how_far_the_model_looks_back() -> None:
    """Never more than it looks back; the newest chunk stays whole beside the sink."""
    for key, window, entries in (
        ("demo", 21, (64, 48, 24)), ("demo", 99, (99, 74, 37)), ("demo", 5, (64, 48, 24)),
        ("longlive", 9, (9, 9, 9)), ("self-forcing", 18, (18, 14, 9)),
    ):  # fmt: skip
        chosen = [policy(key, window, preset=name) for name in ("quality", "balanced", "fast")]
        assert tuple(cache.entry_frames for cache in chosen) == entries
        assert all(cache.sink_frames == 3 for cache in chosen)


def test_a_first_frame_that_is_to_be_encoded_again_is_refused(bench: Bench) -> None:
    kept = {"sink_frames": 0, "first_latent": "re-encode"}
    with pytest.raises(BadInput, match="first_latent is re-encode .* switch temp_cache off"):
        planned(bench, kept)
    assert planned(bench, {**kept, "sink_frames": 1}).settings.reencoded_first_frame is None
