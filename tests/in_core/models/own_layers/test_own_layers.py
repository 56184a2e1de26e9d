"""Layers that the core does not know get their weights however the core keeps its own."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from longtake.model.checkpoint import open_checkpoint
from longtake.model.config import DiTConfig
from longtake.tests.support.model.family_files import SMALL, State, state
from longtake.tests.support.model.lightx2v_files import quantised_layers

WIDE = replace(SMALL, ffn_dim=64)  # every format divides it
KINDS: dict[str, tuple[DiTConfig, str]] = {  # its sizes, and one of its own layers
    "voice": (replace(WIDE, num_layers=4, in_channels=33, out_channels=16, voice=True),
              "audio_cond_projs.0"),
    "camera": (replace(WIDE, camera="prope"), "blocks.1.self_attn.prope_o"),
    "demo's camera": (replace(WIDE, camera="columns"), "action_embedding.2"),
    "flow map": (replace(WIDE, flow_map=True, coarse_past=True), "delta_embedding.2"),
    "state": (replace(WIDE, state="delta"), "blocks.0.self_attn.delta.out"),
}  # fmt: skip
FORM, LAYOUT = "float8_e4m3fn", "TensorCoreFP8E4M3Layout"


def quantised(weights: State, names: list[str], path: Path) -> State:
    """Save a file with fp8 weights of these names; gives what its weights then are."""
    from comfy.quant_ops import QuantizedTensor

    stored, plain = {**weights}, {**weights}
    for name in names:
        packed = QuantizedTensor.from_float(stored.pop(name), LAYOUT, scale="recalculate")
        plain[name] = packed.dequantize()
        parts = packed.layout_cls.state_dict_tensors(packed._qdata, packed._params)
        stored |= {f"{name}{end}": part for end, part in parts.items()}
    layers = {name.removesuffix(".weight"): {"format": FORM} for name in names}
    listed = {"_quantization_metadata": json.dumps({"layers": layers})}
    save_file({name: tensor.contiguous() for name, tensor in stored.items()}, path, listed)
    return plain


def check_weights(path: Path, plain: State, dtype: torch.dtype | None = None) -> Any:
    """Build the MODEL of a file; all of its weights must be these. Gives its module tree."""
    from longtake.nodes import host

    checkpoint = open_checkpoint(path)
    model = host.build_diffusion_model(checkpoint.state, checkpoint.metadata(), dtype)
    tree = host.module_tree(model)
    there = dict(tree.named_parameters())
    assert plain.keys() <= there.keys()
    for name, tensor in plain.items():
        torch.testing.assert_close(unpacked(there[name]), tensor, rtol=1e-2, atol=1e-2)
    return tree


def unpacked(weight: Tensor) -> Tensor:
    packed: Any = weight.data
    return (packed.dequantize() if hasattr(packed, "dequantize") else weight.detach()).float()


@pytest.mark.parametrize("own", [False, True], ids=["the core's", "ours too"])
@pytest.mark.parametrize("kind", KINDS)
def test_beside_the_cores_quantised_layers(core: Any, tmp_path: Path, kind: str, own: bool) -> None:
    config, layer = KINDS[kind]
    weights, path = state(config), tmp_path / "quantised.safetensors"
    ours = {f"{layer}.weight"} if own else set[str]()
    names = [n for n in quantised_layers(weights) if n in state(replace(
        config, voice=False, camera="none", state="none"))]  # fmt: skip
    tree = check_weights(path, quantised(weights, [*names, *ours], path))
    is_packed = type(tree.get_submodule(layer).weight.data).__name__ == "QuantizedTensor"
    assert is_packed == own
    assert type(tree.blocks[0].self_attn.q.weight.data).__name__ == "QuantizedTensor"


@pytest.mark.parametrize("kind", KINDS)
def test_where_the_core_makes_layers_without_memory(
    core: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """As with its DynamicVRAM on NVIDIA's GPUs: a layer has no weight until it is loaded."""
    import comfy.memory_management

    monkeypatch.setattr(comfy.memory_management, "aimdo_enabled", True)
    weights, path = state(KINDS[kind][0]), tmp_path / "plain.safetensors"
    save_file(weights, path)
    check_weights(path, weights, torch.float32)


def test_the_demo_is_whole_where_the_core_makes_layers_without_memory(
    core: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    import comfy.memory_management

    from longtake.nodes import host
    from longtake.nodes.models.load_demo import LoadDemoModel

    monkeypatch.setattr(comfy.memory_management, "aimdo_enabled", True)
    model, *_ = LoadDemoModel.execute("fast").args
    assert host.module_tree(model).action_embedding[2].weight.count_nonzero()
