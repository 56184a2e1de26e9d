"""Which models a saved shot goes on with: any of its own kind, whatever their weights."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open

from longtake.attention.storage.quantize import Float8
from longtake.errors import BadInput
from longtake.model.config import DiTConfig
from longtake.model.files.safetensors_writer import CHECKSUM, info_of, write
from longtake.tests.support.node_bench import CONFIG, Bench
from longtake.tests.support.tiny_model import randn, random_dit

CPU = torch.device("cpu")
I2V = replace(CONFIG, in_channels=36)
FIVE_B = replace(CONFIG, in_channels=48, out_channels=48)
PICTURE = {"concat_latent_image": randn(1, 16, 3, 4, 4),
           "concat_mask": torch.ones(1, 1, 3, 4, 4)}  # fmt: skip


def build_model(config: DiTConfig, seed: int = 0) -> Any:
    """A small random MODEL of that shape."""
    from longtake.headless.hosts.stand_in.models import BaseModel, Patcher

    return Patcher(BaseModel(random_dit(config, seed)), load_device=CPU, offload_device=CPU)


def save_rollout(bench: Bench, config: DiTConfig, model: Any = None, **inputs: Any) -> str:
    """A shot by such a model as Load Rollout lists it."""
    _, clip, _ = bench.run("LongtakeLoadDemoModel")
    [schedule] = bench.run("LongtakeSchedule", steps=1, chunk_frames=3)
    [[embedding, _]] = clip.encode_from_tokens_scheduled(clip.tokenize("a red ball"))
    prompts = [[embedding, PICTURE if config is I2V else {}]]
    shot = {"width": 64, "height": 64} if config is FIVE_B else {"width": 32, "height": 32}
    [rollout] = bench.run(
        "LongtakeSampler", model=model or build_model(config), prompts=prompts, schedule=schedule,
        cfg=1.0, length=9.0, length_unit="frames", **shot, **inputs,
    )  # fmt: skip
    shown = bench.shown("LongtakeSaveRollout", rollout=rollout)
    return f"longtake/{shown['longtake_files'][0]['filename']} [output]"


def behind(bench: Bench, **inputs: Any) -> Any:
    """A MODEL behind ANN-Sparse Attention."""
    return bench.run("LongtakeSparseAttention", model=build_model(CONFIG), **inputs)[0]


def load(bench: Bench, name: str, model: Any) -> Any:
    return bench.run("LongtakeLoadRollout", file=name, model=model)[0]


def test_a_shot_in_the_input_folder_is_found_without_comfyui_too(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is `input/` of the working folder, where pictures and videos are looked for too."""
    from longtake.nodes import host

    monkeypatch.chdir(tmp_path)
    model = build_model(CONFIG)
    made = host.saved_file(save_rollout(bench, CONFIG, model))
    (tmp_path / "input").mkdir()
    made.rename(tmp_path / "input" / made.name)
    [name] = host.saved_files(made.name)
    assert name == f"{made.name} [input]"
    assert load(bench, name, model).frames == 9


@pytest.mark.parametrize("config", [CONFIG, I2V, FIVE_B])
def test_a_shot_goes_on_with_any_model_of_its_kind(bench: Bench, config: DiTConfig) -> None:
    loaded = load(bench, save_rollout(bench, config), build_model(config, seed=5))
    [longer] = bench.run("LongtakeEditRollout", action="continue", rollout=loaded, more=0.5)
    assert len(list(longer.chunks)) == 2


@pytest.mark.parametrize(
    ("made", "given", "says"),
    [
        (CONFIG, FIVE_B, "shot has 16 latent channels, but the model has 48"),
        (FIVE_B, CONFIG, "shot has 48 latent channels, but the model has 16"),
        (I2V, CONFIG, "made from a picture .* image-to-video model"),
        (CONFIG, I2V, "made without a picture .* text-to-video model"),
    ],
)
def test_a_model_of_another_kind_is_refused_before_anything_is_loaded(
    bench: Bench, made: DiTConfig, given: DiTConfig, says: str
) -> None:
    name = save_rollout(bench, made)
    with pytest.raises(BadInput, match=says):
        load(bench, name, build_model(given))


def test_a_device_without_the_shots_storage_is_refused(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    [cache] = bench.run("LongtakeKVCacheSettings", storage="fp8")
    name = save_rollout(bench, CONFIG, kv_cache=cache)
    monkeypatch.setattr(Float8, "unsupported_reason", lambda codec, device: "cpu has no fp8")
    with pytest.raises(BadInput, match="KV cache .* cpu has no fp8"):
        load(bench, name, build_model(CONFIG))


def test_sparse_attention_on_the_model_is_said_to_be_unused_where_the_shot_has_other(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    name, model = save_rollout(bench, CONFIG), build_model(CONFIG)
    [sparse] = bench.run("LongtakeSparseAttention", model=model, temp_cache=True)
    for given, warned in ((model, False), (sparse, True)):
        caplog.clear()
        load(bench, name, given)
        assert ("ANN-Sparse Attention on this model has no effect" in caplog.text) == warned


def test_a_loaded_shot_tells_and_keeps_its_own_attention(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    chosen = {"temp_cache": True, "preset": "fast", "self_attention": "always"}
    [cache] = bench.run("LongtakeKVCacheSettings", policy="window + sink", window_frames=5)
    name = save_rollout(bench, CONFIG, behind(bench, **chosen), kv_cache=cache)
    for inputs, warned in ((chosen, False), ({**chosen, "temp_cache": False}, True), ({}, True)):
        caplog.clear()
        loaded = load(bench, name, behind(bench, **inputs))
        assert "TempCache: entries for 21 latent frames" in loaded.plan.text
        assert ("ANN-Sparse Attention on this model has no effect" in caplog.text) == warned


def test_a_longer_reach_is_said_to_be_unused(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    chosen = {"temp_cache": True, "reach_frames": 30}
    [cache] = bench.run("LongtakeKVCacheSettings", policy="window + sink", window_frames=5)
    name = save_rollout(bench, CONFIG, behind(bench, **chosen), kv_cache=cache)
    for reach, warned in ((30, False), (-1, False), (90, True)):
        caplog.clear()
        load(bench, name, behind(bench, **{**chosen, "reach_frames": reach}))
        assert ("ANN-Sparse Attention on this model has no effect" in caplog.text) == warned, reach


def test_a_shot_that_does_not_fit_keeps_its_settings_and_says_so(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    from longtake.nodes import host

    name = save_rollout(bench, CONFIG)
    monkeypatch.setattr(host, "usable_memory_bytes", lambda device: 1000)
    with pytest.raises(BadInput, match="keeps its settings: .* or make a new one: lower"):
        load(bench, name, build_model(CONFIG))


@pytest.mark.parametrize(("field", "value"), [("length", 10**9), ("rows", 10**9), ("seed", "7")])
def test_a_made_up_shot_is_refused_at_once(
    bench: Bench, tmp_path: Path, field: str, value: object
) -> None:
    """These numbers hung the prompt's thread, or took all memory."""
    name = save_rollout(bench, CONFIG)
    [path] = tmp_path.rglob("*.rollout.safetensors")
    with safe_open(str(path), "pt") as file:
        tensors = {key: file.get_tensor(key) for key in file.keys() if key != CHECKSUM}  # noqa: SIM118
        metadata = dict(file.metadata())
    metadata["recipe"] = json.dumps({**json.loads(metadata["recipe"]), field: value})
    infos = [info_of(key, tensor) for key, tensor in tensors.items()]
    write(path, infos, tensors.items(), metadata, checksum=True)
    start = time.thread_time()
    with pytest.raises(BadInput, match="is damaged, or no Longtake wrote it"):
        load(bench, name, build_model(CONFIG))
    assert time.thread_time() - start < 2
