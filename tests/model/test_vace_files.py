"""VACE files: a module alone or a whole checkpoint, under any names; others are refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from longtake.errors import BadInput
from longtake.model.checkpoint import open_checkpoint
from longtake.model.config import DiTConfig
from longtake.model.families.names import to_diffusers
from longtake.model.vace.file import open_module
from longtake.model.vace.module import VaceModule
from longtake.tests.support.model.family_files import SMALL, header_only, state
from longtake.tests.support.tiny_model import randomise

CONFIG = replace(SMALL, num_layers=4)
State = dict[str, Tensor]


def module_state() -> State:
    """Random weights of a module of two blocks."""
    module = VaceModule(replace(CONFIG, control_blocks=2))
    randomise(module, 7)
    return dict(module.state_dict())


def in_diffusers(names: State) -> State:
    """The module as diffusers' WanVACETransformer3DModel names it."""
    changed = {}
    for name, tensor in names.items():
        for ours, theirs in (("before_proj", "proj_in"), ("after_proj", "proj_out")):
            name = name.replace(ours, theirs)
        head, _, end = name.rpartition(".")
        name = to_diffusers(name) if end == "modulation" else f"{to_diffusers(head)}.{end}"
        changed[name.replace(".modulation", ".scale_shift_table")] = tensor
    return changed


LAYOUTS: dict[str, Callable[[State], State]] = {
    "module": lambda names: names,
    "whole checkpoint": lambda names: {**state(CONFIG), **names},
    "behind a prefix": lambda names: {f"model.diffusion_model.{n}": t for n, t in names.items()},
    "diffusers": in_diffusers,
    "bf16": lambda names: {n: t.bfloat16() for n, t in names.items()},
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_module_is_read_from_any_layout(tmp_path: Path, layout: str) -> None:
    names = module_state()
    save_file(LAYOUTS[layout](names), tmp_path / "x.safetensors")
    module, sizes = open_module(tmp_path / "x.safetensors", CONFIG)
    assert sizes == replace(CONFIG, control_blocks=2)
    for name, tensor in module.state_dict().items():
        expected = names[name].bfloat16().float() if layout == "bf16" else names[name]
        assert torch.equal(tensor, expected), name


def in_fp8(names: State, scale_name: str | None) -> tuple[State, State]:
    """Weights of layers in fp8, with a scale a layer where those have a name; and what they are."""
    stored, meant = dict(names), dict(names)
    for name, tensor in names.items():
        if not name.startswith("vace_blocks.") or not name.endswith(".weight") or tensor.ndim < 2:
            continue
        scale = tensor.abs().max() / 448 if scale_name else torch.tensor(1.0)
        stored[name] = (tensor / scale).to(torch.float8_e4m3fn)
        meant[name] = stored[name].float() * scale
        if scale_name:
            stored[f"{name.removesuffix('.weight')}.{scale_name}"] = scale
    return stored, meant


@pytest.mark.parametrize("scale_name", [None, "scale_weight", "weight_scale"])
def test_a_module_in_fp8_means_its_scaled_values(tmp_path: Path, scale_name: str | None) -> None:
    names = module_state()
    stored, meant = in_fp8(names, scale_name)
    assert sum(t.dtype == torch.float8_e4m3fn for t in stored.values()) >= 20
    marker = {"scaled_fp8": torch.zeros(2)} if scale_name else {}
    save_file({**stored, **marker}, tmp_path / "x.safetensors")
    module, _ = open_module(tmp_path / "x.safetensors", CONFIG)
    for name, tensor in module.state_dict().items():
        assert torch.equal(tensor, meant[name]), name
        torch.testing.assert_close(tensor, names[name], atol=0.1, rtol=0.1)


@pytest.mark.parametrize(("form", "dtype"), [
    ("float8_e4m3fn", torch.float8_e4m3fn), ("float8_e5m2", torch.float8_e5m2),
    ("int8_tensorwise", torch.int8),
])  # fmt: skip
def test_a_module_with_a_mark_beside_each_layer_means_its_scaled_values(
    tmp_path: Path, form: str, dtype: torch.dtype
) -> None:
    """As ComfyUI writes them, which takes such a whole Wan-VACE model."""
    names, mark = module_state(), {"format": form, "full_precision_matrix_mult": True}
    stored, meant = in_fp8(names, "weight_scale")
    for scale in [name for name in stored if name.endswith(".weight_scale")]:
        layer = scale.removesuffix(".weight_scale")
        stored[f"{layer}.weight"] = stored[f"{layer}.weight"].float().mul(0.2).to(dtype)
        meant[f"{layer}.weight"] = stored[f"{layer}.weight"].float() * stored[scale]
        said = [*json.dumps(mark).encode()]
        stored[f"{layer}.comfy_quant"] = torch.tensor(said, dtype=torch.uint8)
    save_file(stored, tmp_path / "x.safetensors")
    module, _ = open_module(tmp_path / "x.safetensors", CONFIG)
    assert sum(n.endswith(".comfy_quant") for n in stored) >= 20
    for name, tensor in module.state_dict().items():
        assert torch.equal(tensor, meant[name]), name


def refused(tmp_path: Path, names: State, **metadata: str) -> str:
    save_file(names, tmp_path / "x.safetensors", metadata)
    with pytest.raises(BadInput) as caught:
        open_module(tmp_path / "x.safetensors", CONFIG)
    return str(caught.value)


def of_width(width: int) -> State:
    module = VaceModule(replace(CONFIG, dim=width, num_heads=1, control_blocks=2))
    return dict(module.state_dict())


def without(names: State, name: str) -> State:
    return {n: t for n, t in names.items() if n != name}


def test_other_files_are_refused_in_a_sentence(tmp_path: Path) -> None:
    names = module_state()
    assert "is 128 wide and the model 256" in refused(tmp_path, of_width(128))
    assert "holds no VACE module" in refused(tmp_path, state(CONFIG))
    missing = refused(tmp_path, without(names, "vace_blocks.1.after_proj.bias"))
    assert "no whole VACE module: it has no vace_blocks.1.after_proj.bias" in missing
    broken = {**names, "vace_blocks.0.ffn.0.bias": torch.full((CONFIG.ffn_dim,), torch.nan)}
    assert "NaN or infinity in vace_blocks.0.ffn.0.bias" in refused(tmp_path, broken)
    channels = {**names, "vace_patch_embedding.weight": torch.zeros(256, 132, 1, 2, 2)}
    assert "reads 132 channels" in refused(tmp_path, channels)
    scale = "vace_blocks.0.ffn.0.weight_scale"
    below = refused(tmp_path, {**names, scale: torch.tensor(-1.0)})
    assert f"has a scale below 0 in {scale}" in below
    third = {n.replace("blocks.1.", "blocks.2."): t for n, t in names.items()}
    assert "has 3 blocks, which do not divide" in refused(tmp_path, third)
    layer = "vace_blocks.0.ffn.0.weight"
    packed = {**names, layer: torch.ones(CONFIG.ffn_dim, CONFIG.dim // 2, dtype=torch.uint8)}
    packed |= {f"{layer}_scale": torch.ones(CONFIG.ffn_dim, CONFIG.dim // 16)}
    assert f"holds {layer} in a packing" in refused(tmp_path, packed)
    turned = {**names, layer: names[layer].T.contiguous(), f"{layer}_scale": torch.ones(1)}
    assert "no whole VACE module: vace_blocks.0.ffn.0.weight is" in refused(tmp_path, turned)
    many = {n.replace("blocks.1.", "blocks.9999."): t for n, t in names.items()}
    assert "has 10000 blocks" in refused(tmp_path, many)


def test_a_module_without_its_scales_is_refused(tmp_path: Path) -> None:
    names, layer = module_state(), "vace_blocks.0.ffn.0.weight"
    whole = {**names, layer: names[layer].to(torch.int8)}
    assert f"holds {layer} as I8 without its scale" in refused(tmp_path, whole)
    marked = {**names, layer: names[layer].to(torch.float8_e4m3fn), "scaled_fp8": torch.zeros(2)}
    assert f"holds {layer} as F8_E4M3 without its scale" in refused(tmp_path, marked)


@pytest.mark.parametrize("by", ["header", "tensor"])
def test_a_module_in_rotated_int8_is_refused(tmp_path: Path, by: str) -> None:
    """Its header, or a tensor beside the layer, says that its numbers are turned."""
    names, layer = module_state(), "vace_blocks.0.ffn.0"
    int8 = {
        **names,
        f"{layer}.weight": torch.ones(names[f"{layer}.weight"].shape, dtype=torch.int8),
    }
    int8[f"{layer}.weight_scale"] = torch.ones(CONFIG.ffn_dim, 1)
    form, metadata = {"format": "int8_tensorwise", "convrot": True}, dict[str, str]()
    if by == "header":
        listing = {"format_version": "1.0", "layers": {layer: form}}
        metadata["_quantization_metadata"] = json.dumps(listing)
    else:
        said = [*json.dumps(form).encode()]
        int8[f"{layer}.comfy_quant"] = torch.tensor(said, dtype=torch.uint8)
    sentence = f"holds {layer}.weight in a packing that Longtake cannot unpack; use an fp16"
    assert sentence in refused(tmp_path, int8, **metadata)


@pytest.mark.parametrize(("dim", "layers", "blocks"), [(1536, 30, 15), (5120, 40, 8)])
def test_a_module_without_its_last_blocks_is_refused(
    tmp_path: Path, dim: int, layers: int, blocks: int
) -> None:
    """A smaller number may divide the layers too, and would stand beside other ones."""
    config = DiTConfig(dim, 64, dim // 128, layers, 4096)
    fewer = next(count for count in range(blocks - 1, 0, -1) if layers % count == 0)
    with torch.device("meta"):
        module = VaceModule(replace(config, control_blocks=fewer))
    shapes = {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}
    path = header_only(tmp_path / "vace.safetensors", shapes)
    said = f"has {fewer} blocks, and that of such a model has {blocks}"
    with pytest.raises(BadInput, match=said):
        open_module(path, config)


def test_the_models_loader_says_where_a_vace_file_goes(tmp_path: Path) -> None:
    save_file({**state(CONFIG), **module_state()}, tmp_path / "wan2.1_vace.safetensors")
    with pytest.raises(BadInput, match="choose the file in the loader of VACE modules"):
        open_checkpoint(tmp_path / "wan2.1_vace.safetensors")
