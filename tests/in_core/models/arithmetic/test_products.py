"""The core's linear layers are multiplied directly where they are their float32 weight alone."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from longtake.model.arithmetic import layers
from longtake.model.arithmetic.layers import Layers
from longtake.samplers.denoiser import Denoiser
from longtake.samplers.loop import generate
from longtake.tests.in_core.support.small_wan import TIMELINE, plain, with_lora
from longtake.tests.support.model.family_files import SMALL
from longtake.tests.support.tiny_model import randn, settings

SHOT = replace(settings(length=6), prompts=TIMELINE, rows=8, columns=12)


def with_weight_function(folder: Path) -> Any:
    """As the core patches a layer whose weight it streams from main memory."""
    model = plain(folder)
    layer: Any = model.model.diffusion_model.blocks[0].self_attn.q
    layer.weight_function = [lambda weight: weight * 1.5]
    return model


KINDS: dict[str, tuple[Callable[[Path], Any], bool]] = {
    "float32": (plain, True),
    "LoRA": (with_lora, True),
    "a layer's function": (with_weight_function, True),
    "bfloat16, cast on use": (lambda folder: plain(folder, torch.bfloat16), False),
    "fp8, cast on use": (lambda folder: plain(folder, torch.float8_e4m3fn), False),
}


@pytest.fixture
def products(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many outputs each product had; they gain for all of float32."""
    calls = list[int]()
    multiply = layers.product

    def counted(x: Tensor, weight: Tensor, *rest: Any, **options: Any) -> Tensor:
        calls.append(len(weight))
        return multiply(x, weight, *rest, **options)

    monkeypatch.setattr(layers, "product", counted)
    monkeypatch.setattr(layers, "suits_products", lambda x, *_: x.dtype is torch.float32)
    return calls


def latents(engine: Denoiser) -> Tensor:
    return torch.cat([chunk.latents for chunk in generate(SHOT, engine)])


@pytest.mark.parametrize("kind", KINDS)
@torch.inference_mode()
def test_a_shot_by_products_equals_one_by_the_cores_layers(
    core: Any, tmp_path: Path, products: list[int], kind: str
) -> None:
    from longtake.nodes.runtime.resolved_model import denoiser

    make, multiplies = KINDS[kind]
    engine = denoiser(make(tmp_path))
    by_themselves = latents(replace(engine, layers=Layers(lambda _: False)))
    assert not products
    torch.testing.assert_close(latents(engine), by_themselves, rtol=1e-4, atol=1e-4)
    assert bool(products) == multiplies


@torch.inference_mode()
def test_models_that_share_weights_take_turns(
    core: Any, tmp_path: Path, products: list[int]
) -> None:
    """Products take the weights of the MODEL that was claimed last, whichever was packed before."""
    from longtake.nodes.runtime.resolved_model import denoiser

    patched = with_lora(tmp_path)
    bare = patched.clone()
    bare.patches = {}
    bare.patches_uuid = uuid.uuid4()
    engines = [denoiser(model) for model in (bare, patched)]
    by_themselves = [latents(replace(each, layers=Layers(lambda _: False))) for each in engines]
    assert not torch.allclose(*by_themselves, atol=1e-3)
    for _ in range(2):
        for engine, expected in zip(engines, by_themselves, strict=True):
            torch.testing.assert_close(latents(engine), expected, rtol=1e-4, atol=1e-4)
    assert products


def test_the_cores_feed_forward_runs_one_layer_after_another(core: Any, tmp_path: Path) -> None:
    from longtake.nodes import host

    block: Any = plain(tmp_path).model.diffusion_model.blocks[0]
    assert host.is_plain_sequence(block.ffn)
    x = randn(2, 5, SMALL.dim)
    with torch.no_grad():
        torch.testing.assert_close(block.ffn(x), block.ffn[2](block.ffn[1](block.ffn[0](x))))


def test_a_layer_that_the_core_patches_or_casts_is_not_plain(core: Any, tmp_path: Path) -> None:
    from longtake.nodes import host

    patched = with_weight_function(tmp_path).model.diffusion_model
    found = {
        name: host.is_plain_linear(layer)
        for name, layer in patched.blocks.named_modules()
        if isinstance(layer, nn.Linear)
    }
    assert [name for name, is_plain in found.items() if not is_plain] == ["0.self_attn.q"]
    assert len(found) == 10 * SMALL.num_layers
    cast = plain(tmp_path, torch.bfloat16).model.diffusion_model.blocks[0].self_attn.q
    assert not host.is_plain_linear(cast)
