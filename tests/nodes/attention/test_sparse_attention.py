"""ANN-Sparse Attention on our sampler, and its override as a host calls it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from longtake.attention.sparse.settings import SparseSelf
from longtake.attention.storage.packed import Packed
from longtake.attention.storage.quantize import INT4
from longtake.attention.temp_cache.policy import REDUNDANT, TempCache
from longtake.errors import BadInput
from longtake.headless.events import FileSaved
from longtake.tests.support.model.other_loader import load_by_host
from longtake.tests.support.node_bench import CONFIG, Bench
from longtake.tests.support.tiny_model import random_dit

CPU = torch.device("cpu")


def run_sampler(bench: Bench, kept: dict[str, Any] | None = None, **inputs: Any) -> Any:
    """A rollout of 9 latent frames of the demo behind the node; `kept` says how."""
    model, clip, vae = bench.run("LongtakeLoadDemoModel")
    [model] = bench.run("LongtakeSparseAttention", model=model, **inputs)
    [prompts] = bench.run("LongtakePromptTimeline", clip=clip, text="a red ball")
    [schedule] = bench.run("LongtakeSchedule", steps=2)
    shot = {"width": 32, "height": 32, "length": 33.0, "length_unit": "frames"}
    [cache] = bench.run("LongtakeKVCacheSettings", window_frames=5, **(kept or {}))
    [rollout] = bench.run(
        "LongtakeSampler", model=model, prompts=prompts, schedule=schedule, kv_cache=cache, **shot
    )
    return rollout, vae


def report(bench: Bench, **inputs: Any) -> dict[str, Any]:
    """What Save Video reports of that rollout."""
    rollout, vae = run_sampler(bench, **inputs)
    [frames] = bench.run("LongtakeVAEDecode", rollout=rollout, vae=vae)
    bench.run("LongtakeSaveVideo", frames=frames)
    [path] = [e.path for e in bench.events if isinstance(e, FileSaved) and e.role == "report"]
    return json.loads(path.read_text())


def test_the_report_says_what_sparse_attention_did(bench: Bench) -> None:
    found = report(
        bench, preset="custom", density=0.05, recall_floor=1.0, self_attention="always",
        temp_cache=True,
    )  # fmt: skip
    assert found["attention_density"] == 1  # the model's one layer is dense
    assert (found["ann_recall"], found["dense_fallbacks"]) == (None, 0)
    assert found["kv_bytes"] == found["kv_bytes_planned"]


@pytest.mark.parametrize(("floor", "falls_back"), [(0.0, False), (1.0, True)])
def test_what_it_did_goes_with_every_chunk_to_the_preview_and_into_the_report(
    bench: Bench, tmp_path: Path, floor: float, falls_back: bool
) -> None:
    """Of a model with a second layer, on pictures with blocks to choose from."""
    from longtake.nodes.models.model_facts import mark_demo

    config = replace(CONFIG, num_layers=2)
    said = json.dumps({"transformer": {"num_heads": 2, "text_dim": CONFIG.text_dim}})
    save_file(dict(random_dit(config).state_dict()), tmp_path / "two.safetensors", {"config": said})
    model = load_by_host(tmp_path / "two.safetensors")
    mark_demo(model)
    [model] = bench.run(
        "LongtakeSparseAttention", model=model, preset="custom", density=0.05, recall_floor=floor,
        self_attention="always", temp_cache=False,
    )  # fmt: skip
    _, clip, vae = bench.run("LongtakeLoadDemoModel")
    [prompts] = bench.run("LongtakePromptTimeline", clip=clip, text="0: a red ball")
    chunks = {"schedule": "causal chunks", "chunk_frames": 3}
    [schedule] = bench.run("LongtakeSchedule", steps=2, first_steps=0, **chunks)
    shot = {"width": 128, "height": 128, "length": 69.0, "length_unit": "frames"}
    [rollout] = bench.run(
        "LongtakeSampler", model=model, prompts=prompts, schedule=schedule, **shot
    )
    [frames] = bench.run("LongtakeVAEDecode", rollout=rollout, vae=vae)
    bench.run("LongtakeSaveVideo", frames=frames)
    [path] = [e.path for e in bench.events if isinstance(e, FileSaved) and e.role == "report"]
    found, shown = json.loads(path.read_text()), frames.stats()
    assert (found["attention_density"] < 0.9) != falls_back
    assert 0 < found["ann_recall"] < 1
    assert (found["dense_fallbacks"] > 0) == falls_back
    assert shown.attention_density == pytest.approx(found["attention_density"], abs=1e-3)


def test_dense_attention_reports_nothing_of_it(bench: Bench) -> None:
    found = report(bench, self_attention="off", prompt_attention="off")
    keys = ("attention_density", "ann_recall", "dense_fallbacks")
    assert [found[key] for key in keys] == [None, None, None]


def test_temp_cache_takes_the_windows_place_in_a_clone_of_the_model(bench: Bench) -> None:
    rollout, _ = run_sampler(bench, preset="quality", temp_cache=True)
    chosen = rollout.settings.cache
    assert isinstance(chosen, TempCache)
    assert (chosen.entry_frames, chosen.sink_frames, chosen.reach_frames) == (64, 3, 64)
    assert (chosen.eviction, chosen.max_mass) == (REDUNDANT, 1)
    assert rollout.settings.sparsity.self_sparsity == SparseSelf(0.5, recall_floor=0.9)
    model, _, _ = bench.run("LongtakeLoadDemoModel")
    bench.run("LongtakeSparseAttention", model=model)
    assert model.attachments.get("longtake.attention") is None
    assert "optimized_attention_override" not in model.model_options["transformer_options"]


def test_a_custom_temp_cache_has_the_windows_entries_and_never_reaches_less_far(
    bench: Bench,
) -> None:
    for reach, expected in ((3, 5), (9, 9)):
        rollout, _ = run_sampler(bench, preset="custom", temp_cache=True, reach_frames=reach)
        chosen = rollout.settings.cache
        assert (chosen.entry_frames, chosen.sink_frames) == (5, 0)
        assert chosen.reach_frames == expected
    rollout, _ = run_sampler(bench, preset="custom", temp_cache=True, entry_frames=8)
    assert rollout.settings.cache.entry_frames == 8
    with pytest.raises(BadInput, match=r"set at least 1, or -1 for as many as the window\."):
        run_sampler(bench, preset="custom", temp_cache=True, entry_frames=0)


def test_entries_are_stored_in_few_bits_if_asked(bench: Bench) -> None:
    sizes = []
    for storage in ("as computed", "int8", "int4"):
        rollout, _ = run_sampler(bench, {"storage": storage}, preset="fast", temp_cache=True)
        assert isinstance(rollout.settings.cache, TempCache)
        sizes.append(rollout.kv_bytes_planned)
    assert sizes[0] > sizes[1] > sizes[2]  # entries of three values are mostly facts
    assert rollout.settings.storage == Packed(INT4)
    with pytest.raises(BadInput, match="placement `device`"):
        run_sampler(bench, {"placement": "main memory"}, temp_cache=True)


def test_the_report_says_which_cache_and_kernel_were_taken_and_why(bench: Bench) -> None:
    found = report(bench, preset="fast", temp_cache=True, kernel="gathered")
    assert found["versions"]["attention"] == (
        "TempCache: entries for 24 latent frames, 3 of them a sink, reach 64, keeps what differs. "
        "Sparse self-attention: dense, since no committed result shows it to be faster on cpu at "
        "these settings. Kernel gathered: chosen by name. Prompt padding: merged from 512 tokens "
        "on, as measured on cpu."
    )


def test_a_budget_holds_for_the_entries_that_take_a_windows_place(bench: Bench) -> None:
    def planned(*, temp_cache: bool, **settings: Any) -> Any:
        model, clip, _ = bench.run("LongtakeLoadDemoModel")
        [model] = bench.run("LongtakeSparseAttention", model=model, temp_cache=temp_cache)
        [prompts] = bench.run("LongtakePromptTimeline", clip=clip, text="a red ball")
        [schedule] = bench.run("LongtakeSchedule", steps=1)
        [cache] = bench.run("LongtakeKVCacheSettings", window_frames=9, **settings)
        [rollout] = bench.run(
            "LongtakeSampler", model=model, prompts=prompts, schedule=schedule, kv_cache=cache,
            width=32, height=32, length=9.0, plan_only=True,
        )  # fmt: skip
        return rollout

    budget = planned(temp_cache=False).kv_bytes_planned  # entries take a little more than keys
    kept = planned(temp_cache=True, budget_gb=budget / 2**30)
    assert isinstance(kept.settings.cache, TempCache)
    assert kept.kv_bytes_planned <= budget < planned(temp_cache=True).kv_bytes_planned


@pytest.mark.parametrize(
    "asked", [{"policy": "full"}, {"policy": "rebuilt window", "first_latent": "re-encode"}]
)
def test_temp_cache_over_anything_but_a_plain_window_is_refused(
    bench: Bench, asked: dict[str, str]
) -> None:
    model, clip, vae = bench.run("LongtakeLoadDemoModel")
    [model] = bench.run("LongtakeSparseAttention", model=model, temp_cache=True)
    [prompts] = bench.run("LongtakePromptTimeline", clip=clip, text="a red ball")
    [schedule] = bench.run("LongtakeSchedule", steps=1)
    [cache] = bench.run("LongtakeKVCacheSettings", sink_frames=0, vae=vae, **asked)
    with pytest.raises(BadInput, match="TempCache .* replaces a plain window"):
        bench.run(
            "LongtakeSampler", model=model, prompts=prompts, schedule=schedule, kv_cache=cache,
            width=32, height=32, length=9.0,
        )  # fmt: skip


def test_the_node_says_why_it_is_dense_and_which_kernel_it_would_take(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    from longtake.nodes.attention import sparse_attention

    said: list[str] = []
    monkeypatch.setattr(sparse_attention.host, "show_status", lambda _, text: said.append(text))
    model, _, _ = bench.run("LongtakeLoadDemoModel")
    bench.run("LongtakeSparseAttention", model=model)
    bench.run("LongtakeSparseAttention", model=model, self_attention="always", kernel="gathered")
    bench.run("LongtakeSparseAttention", model=model, self_attention="off")
    named = {"self_attention": "off", "prompt_attention": "merge padding"}
    bench.run("LongtakeSparseAttention", model=model, **named)
    bench.run("LongtakeSparseAttention", model=model, **{**named, "prompt_attention": "off"})
    padding = "Prompt padding: merged from 512 tokens on, as measured on cpu."
    none, these = "no committed result shows", "at these settings"
    assert said == [
        f"Sparse self-attention where faster: dense, since {none} it to be faster on cpu {these}. "
        f"Kernel gathered: {none} another kernel to be faster on cpu. {padding}",
        f"Sparse self-attention always: as requested. Kernel gathered: chosen by name. {padding}",
        padding,
        "Prompt padding: merged, as requested.",
    ]


def test_a_kernel_is_chosen_by_name_and_refused_where_it_cannot_be_used(bench: Bench) -> None:
    rollout, _ = run_sampler(bench, self_attention="always", kernel="gathered")
    assert rollout.settings.sparsity.self_sparsity.kernel == "gathered"
    model, _, _ = bench.run("LongtakeLoadDemoModel")
    with pytest.raises(BadInput, match="the kernel triton .* choose `auto`"):
        bench.run("LongtakeSparseAttention", model=model, kernel="triton", self_attention="always")
    bench.run("LongtakeSparseAttention", model=model, kernel="triton")  # dense on a CPU


def test_a_model_of_another_family_is_warned_of_and_not_refused(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    from longtake.headless.hosts.stand_in.models import BaseModel, Patcher

    for tree, warned in ((torch.nn.Linear(2, 2), True), (random_dit(CONFIG), False)):
        caplog.clear()
        model = Patcher(BaseModel(tree), load_device=CPU, offload_device=CPU)
        bench.run("LongtakeSparseAttention", model=model)
        assert ("is a Linear, not a Wan model" in caplog.text) == warned
