"""Wan 2.2's two models in one shot: the core's own models, each called by the core."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from longtake.attention.cache.policy import WindowSink
from longtake.model.checkpoint import build_dit, open_checkpoint
from longtake.samplers.conditioning.prompts import PromptTimeline, TimedPrompt
from longtake.samplers.conditioning.reference import Reference
from longtake.samplers.denoiser import Denoiser, LowNoise, SecondWeights, local_denoiser
from longtake.samplers.loop import generate
from longtake.samplers.noise import addressed_noise
from longtake.samplers.schedule.rows import causal_chunks, full_sequence
from longtake.samplers.settings import RolloutSettings
from longtake.tests.support.model.family_files import SMALL, state
from longtake.tests.support.tiny_model import randn

FRAMES, ROWS, COLUMNS, SEED = 3, 4, 6, 5
LEVELS = (1.0, 0.95, 0.8, 0.4, 0.0)
BOUNDARIES = {"t2v": 0.875, "i2v": 0.9}  # Wan-Video/Wan2.2 wan/configs
WORDS = randn(1, 9, SMALL.text_dim, seed=4)
PICTURE = {"concat_latent_image": randn(1, 16, FRAMES, ROWS, COLUMNS, seed=3),
           "concat_mask": torch.ones(1, 1, FRAMES, ROWS, COLUMNS)}  # fmt: skip
PICTURE["concat_mask"][:, :, 0] = 0
CLOSE = {"rtol": 1e-4, "atol": 1e-3}


def files(folder: Path, kind: str) -> list[Path]:
    """The high and the low noise model, small and random, with the names of the published ones."""
    config = replace(SMALL, in_channels=36, out_channels=16) if kind == "i2v" else SMALL
    paths = [folder / f"wan2.2_{kind}_{noise}_noise_14B.safetensors" for noise in ("high", "low")]
    for seed, path in enumerate(paths):
        save_file(state(config, seed), path)
    return paths


def load(path: Path) -> Any:
    """The core's MODEL for a file, which knows its family."""
    from longtake.nodes import host
    from longtake.nodes.models.model_facts import remember

    checkpoint = open_checkpoint(path)
    model = host.build_diffusion_model(checkpoint.state, checkpoint.metadata(), None)
    remember(model, checkpoint.recognition)
    return model


def own(path: Path) -> Denoiser:
    """The engine's own model for a file, without the core."""
    checkpoint = open_checkpoint(path)
    config = checkpoint.recognition.config
    return local_denoiser(build_dit(checkpoint.state(), config, path), config)


def picture(kind: str) -> dict[str, Tensor]:
    """New tensors of the picture's conditioning; none for text to video."""
    return {name: value.clone() for name, value in PICTURE.items()} if kind == "i2v" else {}


def settings(kind: str, reference: Reference | None, **changes: Any) -> RolloutSettings:
    timeline = PromptTimeline((TimedPrompt(0, WORDS[0], "a"),), torch.zeros_like(WORDS[0]))
    given: dict[str, Any] = {"schedule": full_sequence(LEVELS), "length": FRAMES, **changes}
    return RolloutSettings(timeline, ROWS, COLUMNS, seed=SEED, reference=reference, **given)


def reference_of(model: Any, kind: str) -> Reference | None:
    from longtake.nodes.conditioning.reference import reference
    from longtake.nodes.runtime.resolved_model import denoiser

    return reference(denoiser(model).config, [[WORDS, picture(kind)]])


def latents(shot: RolloutSettings, engine: Any) -> Tensor:
    return torch.cat([chunk.latents for chunk in generate(shot, engine)])


def by_the_core(models: Sequence[Any], kind: str) -> Tensor:
    """Euler over all frames: at each level the core's own `apply_model` of the model in turn."""
    from longtake.nodes import host

    size = 16, ROWS, COLUMNS
    x = torch.stack([addressed_noise(SEED, f, 0, "start", size) for f in range(FRAMES)])
    x = x.transpose(0, 1).unsqueeze(0)
    for now, after in zip(LEVELS, LEVELS[1:], strict=False):
        model = models[int(now < BOUNDARIES[kind])]
        host.claim([model], 0)
        beside = {}
        if kind == "i2v":
            beside["c_concat"] = model.model.concat_cond(noise=x, device=x.device, **picture(kind))
        clean = model.model.apply_model(x, torch.tensor([now]), c_crossattn=WORDS, **beside)
        x = x + (after - now) * (x - clean) / now
    return x[0].transpose(0, 1).float()


def joined(models: Sequence[Any]) -> Any:
    """The two as Model Pair joins them, with the boundary that their files' family gives."""
    from longtake.nodes.models.model_facts import facts
    from longtake.nodes.models.pair import pair

    return pair(*models, LowNoise(facts(models[0]).preset.boundary))


@pytest.mark.parametrize("kind", BOUNDARIES)
@torch.inference_mode()
def test_a_pairs_rollout_is_the_cores_own_euler_steps(core: Any, tmp_path: Path, kind: str) -> None:
    from longtake.nodes.models.model_facts import HIGH, LOW, facts
    from longtake.nodes.runtime.resolved_model import denoiser

    models = [load(path) for path in files(tmp_path, kind)]
    assert [facts(model).noise for model in models] == [HIGH, LOW]
    assert facts(models[0]).preset.boundary == BOUNDARIES[kind]
    shot = settings(kind, reference_of(models[0], kind))
    expected = by_the_core(models, kind)
    ours = latents(shot, denoiser(joined(models)))
    torch.testing.assert_close(ours, expected, **CLOSE)
    assert (latents(shot, denoiser(models[0])) - expected).abs().max() > 0.1


@pytest.mark.parametrize("kind", BOUNDARIES)
@torch.inference_mode()
def test_a_pair_on_a_window_is_the_engines_own_two_models(
    core: Any, tmp_path: Path, kind: str
) -> None:
    """Chunk by chunk past the window: what the core holds and claims gives our own trees' video."""
    from longtake.nodes.runtime.resolved_model import denoiser

    paths = files(tmp_path, kind)
    models = [load(path) for path in paths]
    high, low = map(own, paths)
    shot = settings(
        kind, reference_of(models[0], kind), length=12, cache=WindowSink(4, 1),
        schedule=causal_chunks(LEVELS, 2),
    )  # fmt: skip
    engine = replace(high, second=SecondWeights(low, LowNoise(BOUNDARIES[kind])))
    expected = latents(shot, engine)
    torch.testing.assert_close(latents(shot, denoiser(joined(models))), expected, **CLOSE)
    assert (latents(shot, high) - expected).abs().max() > 0.1


def test_a_dtype_for_a_pair_is_no_patch_on_its_weights(core: Any, tmp_path: Path) -> None:
    """The core's ModelComputeDtype gives its MODEL another id of patches, and adds none."""
    from longtake.nodes import host
    from longtake.nodes.models.pair import half_patched

    pair = joined([load(path) for path in files(tmp_path, "t2v")])
    half = pair.clone()
    half.set_model_compute_dtype(torch.float16)
    assert half.patches_uuid != pair.patches_uuid and half_patched(half) == ""
    layer = "blocks.0.ffn.0"
    parts = {(layer, "diff"): torch.ones(SMALL.ffn_dim, SMALL.dim)}
    assert "the first one alone" in half_patched(host.with_lora(half, parts, 1.0))
