"""Model Pair under the stand-in: two MODELs in one shot, each with its own LoRA and KV cache."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from longtake.errors import BadInput
from longtake.model.lora.file import open_lora
from longtake.samplers.denoiser import Commits, LocalHost, LowNoise, SecondWeights
from longtake.samplers.loop import generate
from longtake.tests.support.model.family_files import prefix, rename
from longtake.tests.support.model.lora_files import safetensors
from longtake.tests.support.model.other_loader import load_by_host
from longtake.tests.support.node_bench import CONFIG, Bench
from longtake.tests.support.tiny_model import randn, random_dit

CHOICES = {"family": "auto", "weights": "auto", "weight_dtype": "auto", "fps": "from model"}
HEADER = {"config": json.dumps({"transformer": {"num_heads": 2, "text_dim": 8}})}


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two small models with the names of Wan 2.2's, and a LoRA."""
    folder = tmp_path / "models" / "diffusion_models"
    folder.mkdir(parents=True)
    for seed, noise in enumerate(("high", "low")):
        weights = dict(random_dit(CONFIG, seed).state_dict())
        save_file(weights, folder / f"wan2.2_t2v_{noise}_noise_14B.safetensors", HEADER)
    layer = "diffusion_model.blocks.0.self_attn.v"  # what a commit writes
    lora = {f"{layer}.lora_up.weight": randn(CONFIG.dim, 2, seed=1),
            f"{layer}.lora_down.weight": randn(2, CONFIG.dim, seed=2)}  # fmt: skip
    safetensors(tmp_path / "models" / "loras" / "l.safetensors", lora)
    monkeypatch.chdir(tmp_path)
    return folder


def load(bench: Bench, noise: str) -> Any:
    name = f"wan2.2_t2v_{noise}_noise_14B.safetensors"
    return bench.run("LongtakeLoadModel", model_name=name, **CHOICES)[0]


def pair(bench: Bench, first: Any, second: Any, **changes: Any) -> Any:
    chosen = {"boundary": -1.0, "second_makes": "low-noise steps", **changes}
    return bench.run("LongtakeModelPair", model=first, second_model=second, **chosen)[0]


def with_lora(bench: Bench, model: Any) -> Any:
    return bench.run("LongtakeLoadLora", model=model, lora_name="l.safetensors", strength=0.8)[0]


def rollout(bench: Bench, model: Any, frames: float = 33.0) -> Any:
    """A shot of chunks of three latent frames in four steps."""
    _, clip, _ = bench.run("LongtakeLoadDemoModel")
    [prompts] = bench.run("LongtakePromptTimeline", clip=clip, text="0: a red ball")
    [schedule] = bench.run(
        "LongtakeSchedule", schedule="causal chunks", chunk_frames=3, steps=4, shift=3.0,
        solver="euler", first_steps=0,
    )  # fmt: skip
    [cache] = bench.run("LongtakeKVCacheSettings", window_frames=6, sink_frames=0)
    size = {"width": 32, "height": 32, "length": frames, "length_unit": "frames", "cfg": 1.0}
    return bench.run(
        "LongtakeSampler", model=model, prompts=prompts, schedule=schedule, kv_cache=cache, **size
    )[0]


def latents(shot: Any) -> torch.Tensor:
    return torch.cat([chunk.latents for chunk in shot.chunks.read_from(0)])


def engine_latents(shot: Any, first: Any, second: Any, passes: LowNoise | Commits) -> torch.Tensor:
    """The engine's own rollout of the two module trees."""
    model = shot.model
    other = type(model).__base__(LocalHost(second), model.config)
    local = type(model).__base__(
        LocalHost(first), model.config, second=SecondWeights(other, passes)
    )
    return torch.cat([chunk.latents for chunk in generate(shot.settings, local)])


@pytest.mark.parametrize(
    ("makes", "passes"), [("low-noise steps", LowNoise(0.875)), ("commits", Commits())]
)
def test_the_sampler_runs_both_models(
    bench: Bench, files: Path, makes: str, passes: LowNoise | Commits
) -> None:
    joined = pair(bench, load(bench, "high"), load(bench, "low"), second_makes=makes)
    shot = rollout(bench, joined)
    expected = engine_latents(shot, random_dit(CONFIG, 0), random_dit(CONFIG, 1), passes)
    assert torch.equal(latents(shot), expected)
    assert len(shot.get_models()) == 2


def test_each_model_keeps_its_own_lora(bench: Bench, files: Path) -> None:
    """A LoRA before the node changes one model; the live strength changes the LoRAs of both."""
    high, low = load(bench, "high"), load(bench, "low")
    shots = [
        rollout(bench, pair(bench, *models))
        for models in ((high, low), (with_lora(bench, high), low), (high, with_lora(bench, low)))
    ]
    made = [latents(shot) for shot in shots]
    assert len({shot.id for shot in shots}) == 3
    assert all((a - b).abs().max() > 1e-3 for a, b in zip(made, made[1:], strict=False))
    assert shots[0].claim.scale_loras is None
    shots[2].claim.scale_loras(0.0)
    again = [*generate(shots[2].settings, shots[2].model)]
    torch.testing.assert_close(torch.cat([c.latents for c in again]), made[0])


def test_a_lora_after_the_experts_were_joined_is_refused(bench: Bench, files: Path) -> None:
    with pytest.raises(BadInput, match="put Load Wan LoRA on each of its models, before Model"):
        with_lora(bench, pair(bench, load(bench, "high"), load(bench, "low")))


def test_a_lora_on_a_pair_by_commits_changes_both(bench: Bench, files: Path) -> None:
    """Both sets of weights of Self Gradient Forcing Plus come from one loader."""
    high, low, by = load(bench, "high"), load(bench, "low"), {"second_makes": "commits"}
    both = pair(bench, with_lora(bench, high), with_lora(bench, low), **by)
    after = with_lora(bench, pair(bench, high, low, **by))
    assert torch.equal(latents(rollout(bench, after)), latents(rollout(bench, both)))


@pytest.mark.parametrize(
    ("makes", "remedy"),
    [
        ("low-noise steps", "put that node on each of the two models, before Model Pair"),
        ("commits", "use Load Wan LoRA, which changes both"),
    ],
)
def test_a_lora_of_another_node_after_the_models_were_joined_is_warned_of(
    bench: Bench, files: Path, caplog: pytest.LogCaptureFixture, makes: str, remedy: str
) -> None:
    """It changes the first model alone, also where a LoRA of ours follows."""
    from longtake.nodes import host

    high, low = load(bench, "high"), load(bench, "low")
    rollout(bench, pair(bench, with_lora(bench, high), low, second_makes=makes))
    assert "the first one alone" not in caplog.text
    joined = pair(bench, high, low, second_makes=makes)
    lora = open_lora(Path("models/loras/l.safetensors"), host.layer_shapes(joined))
    half = host.with_lora(joined, lora.parts, 1.0)
    rollout(bench, half if makes == "low-noise steps" else with_lora(bench, half))
    assert f"changes the weights of the first one alone; {remedy}." in caplog.text


def test_a_lora_beside_the_weights_of_one_model_is_warned_of_too(bench: Bench, files: Path) -> None:
    """As the host's Load LoRA (Bypass) injects one."""
    from longtake.nodes.models.pair import half_patched

    joined = pair(bench, load(bench, "high"), load(bench, "low")).clone()
    assert not half_patched(joined)
    joined.injections["bypass_lora"] = [object()]
    assert "the first one alone; put that node on each" in half_patched(joined)


def test_the_address_tells_both_models_and_their_turns(bench: Bench, files: Path) -> None:
    from longtake.nodes.models.identity import identity

    high, low = load(bench, "high"), load(bench, "low")
    names = [
        identity(model)[0]
        for model in (
            high, low, pair(bench, high, low), pair(bench, low, high),
            pair(bench, high, low, boundary=0.5), pair(bench, high, low, second_makes="commits"),
        )
    ]  # fmt: skip
    assert len({*names}) == len(names)
    assert identity(pair(bench, high, low))[0] == names[2]


def test_the_plan_counts_the_kv_cache_of_both(bench: Bench, files: Path) -> None:
    high, low = load(bench, "high"), load(bench, "low")
    alone, by_level, by_commit = (
        rollout(bench, model)
        for model in (high, pair(bench, high, low), pair(bench, high, low, second_makes="commits"))
    )
    assert by_level.kv_bytes_planned == 2 * alone.kv_bytes_planned == 2 * by_commit.kv_bytes_planned
    latents(by_level)
    assert by_level.kv_bytes == by_level.kv_bytes_planned
    assert "(of 2 models)" in by_level.plan.text and "(of 2 models)" not in by_commit.plan.text


def test_half_a_pair_and_a_swapped_one_are_said(
    bench: Bench, files: Path, caplog: pytest.LogCaptureFixture
) -> None:
    high, low = load(bench, "high"), load(bench, "low")
    rollout(bench, high)
    assert "is two models and this is one of them" in caplog.text
    assert "swapped" not in caplog.text
    pair(bench, low, high)
    assert "the two models are swapped" in caplog.text
    caplog.clear()
    rollout(bench, pair(bench, high, low))
    assert "is two models" not in caplog.text and "swapped" not in caplog.text


def test_models_of_another_loader_are_seen_to_be_swapped_too(
    bench: Bench, files: Path, caplog: pytest.LogCaptureFixture
) -> None:
    high, low = (
        load_by_host(files / f"wan2.2_t2v_{noise}_noise_14B.safetensors")
        for noise in ("high", "low")
    )
    [named] = bench.run("LongtakeSetModelFamily", model=low, family="wan22-a14b")
    pair(bench, high, low)
    assert "swapped" not in caplog.text
    for first in (low, named):
        pair(bench, first, high)
        assert "the two models are swapped" in caplog.text
        caplog.clear()


@pytest.mark.parametrize("loader", ["UnetLoaderGGUF", "UnetLoaderGGUFAdvanced"])
def test_models_that_do_not_tell_their_file_are_seen_to_be_swapped_by_the_workflow(
    bench: Bench, files: Path, caplog: pytest.LogCaptureFixture, loader: str
) -> None:
    """ComfyUI-GGUF keeps no path with a MODEL; a LoRA's name says nothing of the model's."""
    model = load_by_host(files / "wan2.2_t2v_high_noise_14B.safetensors")
    model.cached_patcher_init = None
    name = "Wan2.2/Wan2.2-T2V-A14B-{}Noise-Q4_K_M.gguf"
    for first, second, warns in (("High", "Low", False), ("Low", "High", True), ("x", "x", False)):
        bench.prompt = {
            "1": {"class_type": loader, "inputs": {"unet_name": name.format(first)}},
            "2": {"class_type": loader, "inputs": {"unet_name": name.format(second)}},
            "3": {"class_type": "LoraLoaderModelOnly",
                  "inputs": {"model": ["1", 0], "lora_name": "low_noise.safetensors"}},
            "LongtakeModelPair": {"inputs": {"model": ["3", 0], "second_model": ["2", 0]}},
        }  # fmt: skip
        pair(bench, model, model.clone())
        assert ("the two models are swapped" in caplog.text) == warns
        caplog.clear()


@pytest.mark.parametrize(("path", "side"), [
    ("Wan2_2-T2V-A14B-LOW_fp8_e4m3fn_scaled_KJ.safetensors", "low"),
    ("Wan2_2-T2V-A14B_HIGH_fp8_e5m2_scaled_KJ.safetensors", "high"),
    ("wan22Enhanced_v2Low.safetensors", "low"),
    ("Wan2.2-T2V-A14B-HighNoise-Q4_K_M.gguf", "high"),
    ("smoothMixWan22I2VT2V_t2vHigh20.safetensors", "high"),
    ("DasiwaWAN22T2V14B_tastysinLowV81.safetensors", "low"),
    ("wanHighRes_veryLowVram_flowers.safetensors", ""),
    ("wan22_high_and_low_noise/wan2.2_t2v_high_noise_14B.safetensors", "high"),
    ("low_noise_model/diffusion_pytorch_model-00001-of-00006.safetensors", "low"),
    ("A14B-Diffusers/transformer_2/diffusion_pytorch_model.safetensors", "low"),
    ("high_and_low/wan_14B.safetensors", ""),
    ("highres/flowers_slow.safetensors", ""),
    ("high_quality/wan2.2_14B_low-vram.safetensors", ""),
    ("low_vram/wan2.2_t2v_high_noise_14B.safetensors", "high"),
])  # fmt: skip
def test_the_name_of_a_file_says_which_half_it_is(bench: Bench, path: str, side: str) -> None:
    from longtake.nodes.models.model_facts import noise_side

    assert noise_side(Path("models/diffusion_models") / path) == side


def test_a_pair_is_no_half_of_another(bench: Bench, files: Path) -> None:
    high, low = load(bench, "high"), load(bench, "low")
    with pytest.raises(BadInput, match="a pair already"):
        pair(bench, pair(bench, high, low), low)


def test_a_file_with_a_twin_is_loaded_as_a_pair(bench: Bench, files: Path) -> None:
    """Self Gradient Forcing Plus: the second weights of its one file make every commit."""
    first, second = (random_dit(CONFIG, seed) for seed in (3, 4))
    stored = dict(first.state_dict())
    for name, tensor in second.state_dict().items():
        head, _, rest = name.rpartition(".")
        inside = name.startswith("blocks.")
        stored[f"{head}.memory_{rest}" if inside else f"memory_{name}"] = tensor
    named = {"generator_ema": rename(stored, prefix("model."))}
    (files / "sgf").mkdir()
    save_file(named["generator_ema"], files / "sgf" / "chunkwise.safetensors", HEADER)
    name = "sgf/chunkwise.safetensors"
    [model] = bench.run("LongtakeLoadModel", model_name=name, **CHOICES)
    shot = rollout(bench, model)
    assert torch.equal(latents(shot), engine_latents(shot, first, second, Commits()))


def test_an_interrupted_shot_goes_on_with_both(bench: Bench, files: Path) -> None:
    """Resumed by replay equals uninterrupted, bit for bit."""
    joined = pair(bench, load(bench, "high"), load(bench, "low"))
    whole = latents(rollout(bench, joined, 57.0))
    begun = rollout(bench, joined, 33.0)
    assert torch.equal(latents(begun), whole[: len(latents(begun))])
    from longtake.nodes.runtime.session import session

    session.reset()
    bench.state.start_prompt()
    again = rollout(bench, pair(bench, load(bench, "high"), load(bench, "low")), 57.0)
    assert torch.equal(latents(again), whole)
