"""Products take the weights of the MODEL that was claimed last, whichever was packed before."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from longtake.model.arithmetic import layers
from longtake.model.arithmetic.layers import Layers
from longtake.model.arithmetic.packed import PackedWeights
from longtake.samplers.conditioning.prompts import PromptTimeline, TimedPrompt
from longtake.samplers.denoiser import Denoiser
from longtake.samplers.loop import generate
from longtake.tests.support.lasting_host import lasting_host
from longtake.tests.support.model.family_files import SMALL, state
from longtake.tests.support.model.other_loader import load_by_host
from longtake.tests.support.node_bench import Bench
from longtake.tests.support.tiny_model import randn, settings

LAYER = "blocks.0.self_attn.q"
TEXT = randn(4, SMALL.text_dim, seed=5)
PROMPTS = PromptTimeline((TimedPrompt(0, TEXT, "a hill"),), torch.zeros_like(TEXT))
SHOT = replace(settings(length=6), prompts=PROMPTS)


@pytest.fixture
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Any, Any]]:
    """A MODEL, and a handle on the same weights with a LoRA."""
    monkeypatch.setattr(layers, "suits_products", lambda x, *_: x.dtype is torch.float32)
    save_file(state(), tmp_path / "m.safetensors")
    with lasting_host(tmp_path / "out", lambda event: None):
        from longtake.nodes import host

        plain = load_by_host(tmp_path / "m.safetensors")
        rows, columns = host.layer_shapes(plain)[LAYER]
        parts = {
            (LAYER, "lora_up.weight"): randn(rows, 2, seed=1),
            (LAYER, "lora_down.weight"): randn(2, columns, seed=2),
            (LAYER, "alpha"): torch.tensor(2.0),
        }
        yield plain, host.with_lora(plain, parts, 0.8)


def latents(engine: Denoiser) -> Tensor:
    return torch.cat([chunk.latents for chunk in generate(SHOT, engine)])


@torch.inference_mode()
def test_models_that_share_weights_take_turns(models: tuple[Any, Any]) -> None:
    from longtake.nodes.runtime.resolved_model import denoiser

    engines = [denoiser(model) for model in models]
    assert all(isinstance(engine.layers.packed, PackedWeights) for engine in engines)
    by_themselves = [latents(replace(each, layers=Layers(lambda _: False))) for each in engines]
    assert not torch.allclose(*by_themselves, atol=1e-3)
    for _ in range(2):
        for engine, expected in zip(engines, by_themselves, strict=True):
            torch.testing.assert_close(latents(engine), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("quality", "able", "argument", "lowers"),
    [
        ("fast", True, "", True),
        ("fast", True, "fp32_unet", False),
        ("fast", True, "force_fp32", False),
        ("fast", False, "", False),
        ("full", True, "", False),
    ],
)
def test_the_fast_demo_multiplies_in_bfloat16_where_a_cpu_can(  # noqa: PLR0913
    bench: Bench, monkeypatch: pytest.MonkeyPatch, quality: str, able: bool, argument: str,
    lowers: bool,
) -> None:  # fmt: skip
    from comfy.cli_args import args

    from longtake.nodes.models import model_facts as module
    from longtake.nodes.runtime.resolved_model import ResolvedModel

    monkeypatch.setattr(module, "has_wide_products", lambda: True)
    monkeypatch.setattr(module, "computes_in_bfloat16", lambda _: able)
    model, *_ = bench.run("LongtakeLoadDemoModel", quality=quality)
    if argument:
        monkeypatch.setattr(args, argument, True)
    made = ResolvedModel.of(model)
    packed = made.engine.layers.packed
    assert packed is not None and (packed.dtype is torch.bfloat16) is lowers
    monkeypatch.setattr(module, "has_wide_products", lambda: False)
    elsewhere = ResolvedModel.of(model)
    assert (made.identity != elsewhere.identity) is lowers, "other arithmetic makes other chunks"


@torch.inference_mode()
def test_a_strength_that_changes_in_a_shot_changes_the_products(models: tuple[Any, Any]) -> None:
    from longtake.nodes.runtime.resolved_model import denoiser

    plain, engine = latents(denoiser(models[0])), denoiser(models[1])
    strong = latents(engine)
    assert engine.host.scale_loras is not None
    engine.host.scale_loras(0.0)
    torch.testing.assert_close(latents(engine), plain, rtol=1e-4, atol=1e-4)
    engine.host.scale_loras(1.0)
    assert torch.equal(latents(engine), strong)
