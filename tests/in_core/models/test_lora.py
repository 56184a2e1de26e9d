"""LoRA files in the real core: its own loader's result where it knows the names, else their own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from longtake.model.checkpoint import open_checkpoint
from longtake.model.lora.file import open_lora
from longtake.tests.support.model.family_files import State, state
from longtake.tests.support.model.lora_files import (
    LAYERS,
    alphas,
    layers,
    merge,
    safetensors,
)

KOHYA = (".lora_up.weight", ".lora_down.weight")
PEFT = (".lora_B.weight", ".lora_A.weight")


@pytest.fixture(scope="module")
def host(core: Any) -> Any:
    from longtake.nodes import host

    return host


@pytest.fixture
def model(host: Any, tmp_path: Path) -> Any:
    save_file(state(), tmp_path / "wan.safetensors")
    checkpoint = open_checkpoint(tmp_path / "wan.safetensors")
    return host.build_diffusion_model(checkpoint.state, checkpoint.metadata(), None)


def in_use(host: Any, model: Any) -> State:
    """Every patched weight as the core computes it."""
    host.claim([model], 0)
    from comfy.lora import calculate_weight

    stacks, weights = model.get_key_patches("diffusion_model."), {}
    for name, (base, *patches) in stacks.items():
        value: Tensor = base[1](base[0].float().clone())
        weights[name.removeprefix("diffusion_model.")] = (
            calculate_weight(patches, value, name) if patches else value
        )
    return weights


def on_it(host: Any, model: Any, path: Path, strength: float) -> Any:
    return host.with_lora(model, open_lora(path, host.layer_shapes(model)).parts, strength)


def same(one: State, other: State) -> None:
    for name, tensor in other.items():
        torch.testing.assert_close(one[name], tensor.float(), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("prefix", "name"),
    [("diffusion_model.", str), ("lora_unet_", lambda n: n.replace(".", "_"))],
    ids=["dotted", "underscored"],
)
@torch.inference_mode()
def test_names_that_the_core_knows_give_what_its_own_loader_gives(
    core: Any, host: Any, model: Any, tmp_path: Path, prefix: str, name: Any
) -> None:
    pair = alphas(layers(prefix, *KOHYA, name), KOHYA[0], 2.0)
    path = safetensors(tmp_path / "l.safetensors", pair)
    theirs = core.sd.load_lora_for_models(model, None, load_file(path), 0.7, 0)[0]
    ours, theirs = (in_use(host, m) for m in (on_it(host, model, path, 0.7), theirs))
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[one], theirs[one]) for one in ours)
    same(ours, merge(0.7 * 0.5))


@torch.inference_mode()
def test_a_lora_of_image_to_video_gives_text_to_video_what_the_core_gives_it(
    core: Any, host: Any, model: Any, tmp_path: Path
) -> None:
    """The core, too, leaves the difference of the layer for latents out and adds its bias."""
    head = "diffusion_model.patch_embedding"
    extra = {f"{head}.diff": torch.ones(256, 36, 1, 2, 2), f"{head}.diff_b": torch.ones(256)}
    path = safetensors(tmp_path / "l.safetensors", layers("diffusion_model.", *KOHYA) | extra)
    theirs = core.sd.load_lora_for_models(model, None, load_file(path), 0.7, 0)[0]
    ours, theirs = (in_use(host, m) for m in (on_it(host, model, path, 0.7), theirs))
    assert all(torch.equal(ours[name], tensor) for name, tensor in theirs.items())
    same({"patch_embedding.bias": ours["patch_embedding.bias"]}, {
        "patch_embedding.bias": state()["patch_embedding.bias"] + 0.7})  # fmt: skip


@torch.inference_mode()
def test_names_that_the_core_does_not_know_give_their_own_arithmetic(
    core: Any, host: Any, model: Any, tmp_path: Path
) -> None:
    files = {
        "transformer.": LAYERS.__getitem__,  # diffusers
        "base_model.model.": str,  # PEFT, and LongLive's
    }
    for prefix, name in files.items():
        path = safetensors(tmp_path / "l.safetensors", layers(prefix, *PEFT, name))
        theirs = core.sd.load_lora_for_models(model, None, load_file(path), 0.7, 0)[0]
        assert not theirs.patches  # else this node would not be needed
        same(in_use(host, on_it(host, model, path, 0.7)), merge(0.7))
    weaker = host.with_lora_factor(on_it(host, model, path, 0.7), 0.5)
    same(in_use(host, weaker), merge(0.35))
    assert host.has_lora(weaker) and not host.has_lora(model)
    two = on_it(host, on_it(host, model, path, 0.7), path, -0.3)
    same(in_use(host, two), merge(0.4))
    same(in_use(host, model), state())


@torch.inference_mode()
def test_a_lora_reaches_the_modules_that_our_forward_calls(
    host: Any, model: Any, tmp_path: Path
) -> None:
    path = safetensors(tmp_path / "l.safetensors", layers("transformer.", *PEFT, LAYERS.get))
    patched, x = on_it(host, model, path, 0.7), torch.ones(1, 3, 256)
    for one, weights in ((patched, merge(0.7)), (model, state()), (patched, merge(0.7))):
        host.claim([one], 0)
        layer = host.module_tree(one).blocks[0].ffn[0]
        expected = x @ weights["blocks.0.ffn.0.weight"].T + weights["blocks.0.ffn.0.bias"]
        torch.testing.assert_close(layer(x).float(), expected, rtol=1e-4, atol=1e-4)


@torch.inference_mode()
def test_differences_of_modulations_are_in_use_though_the_core_leaves_them_out(
    core: Any, host: Any, model: Any, tmp_path: Path
) -> None:
    """The core takes the one name, and never loads such a patch; it does not know the other."""
    names = {f"{one}.modulation": f"diffusion_model.{one}" for one in ("blocks.0", "head")}
    for end in ("diff_m", "modulation.diff"):
        full = {f"{theirs}.{end}": torch.ones_like(state()[n]) for n, theirs in names.items()}
        path = safetensors(tmp_path / "l.safetensors", full)
        patched = on_it(host, model, path, 0.5)
        for one, added in ((patched, 0.5), (model, 0.0), (patched, 0.5), (patched, 0.5)):
            host.claim([one], 0)
            tree = host.module_tree(one)
            same({n: tree.get_parameter(n) for n in names}, {n: state()[n] + added for n in names})
        assert host.has_lora(patched) and not host.has_lora(model)


@torch.inference_mode()
def test_a_sampler_of_the_core_sees_no_modulations_that_only_ours_patch(
    core: Any, host: Any, model: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or its pictures would depend on whether ours ran before."""
    name, full = "blocks.0.modulation", {}
    full["diffusion_model.blocks.0.diff_m"] = torch.ones_like(state()[name])
    full["diffusion_model.blocks.0.ffn.0.diff_b"] = torch.ones(48)
    patched = on_it(host, model, safetensors(tmp_path / "l.safetensors", full), 0.5)
    load_models, loads = core.model_management.load_models_gpu, []
    load = type(patched).load
    monkeypatch.setattr(type(patched), "load", lambda *a, **k: (loads.append(1), load(*a, **k)))
    for use, added in (((load_models, [patched]), 0.0), ((host.claim, [patched], 0), 0.5)) * 2:
        use[0](*use[1:])
        modulation = host.module_tree(patched).get_parameter(name)
        torch.testing.assert_close(modulation.float(), state()[name] + added)
    before = len(loads)
    host.claim([patched], 0)
    assert len(loads) == before  # the next chunk loads nothing anew
