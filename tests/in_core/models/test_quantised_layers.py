"""The core's fp8, MXFP8, NVFP4, int8 and int4 files, and LightX2V's, through our forward."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from longtake.attention.dense import WholeSequence
from longtake.attention.rope import rotation
from longtake.model.checkpoint import open_checkpoint
from longtake.model.dit import predict, project_text
from longtake.tests.support.model.family_files import SMALL, State, state
from longtake.tests.support.model.lightx2v_files import (
    Layer,
    file_and_meaning,
    fp8,
    int8,
    nvfp4,
    nvfp4_with_alpha,
    quantised_layers,
    wide_fp8,
)

FRAMES, ROWS, COLUMNS = 3, 8, 12
HALF = 2e-2  # the host computes in half precision
WIDE = replace(SMALL, ffn_dim=64)  # every format divides it


@pytest.fixture(scope="module")
def host(core: Any) -> Any:
    from longtake.nodes import host

    return host


def inputs() -> tuple[Tensor, Tensor, Tensor]:
    seeded = torch.Generator().manual_seed(0)
    x = torch.randn(1, 16, FRAMES, ROWS, COLUMNS, generator=seeded)
    context = torch.randn(1, 9, SMALL.text_dim, generator=seeded)
    return x, torch.tensor([[900.0, 500.0, 20.0]]), context


@torch.inference_mode()
def ours(tree: Any) -> Tensor:
    x, t, context = inputs()
    attention = WholeSequence(rotation(range(FRAMES), ROWS // 2, COLUMNS // 2, SMALL.head_dim))
    text = project_text(tree, context.unsqueeze(1), None)
    return predict(tree, x.transpose(1, 2), t, text, attention).velocity.transpose(1, 2)


def built(host: Any, path: Path) -> Any:
    """The host's MODEL for a file."""
    checkpoint = open_checkpoint(path)
    return host.build_diffusion_model(checkpoint.state, checkpoint.metadata(), None)


def loaded(host: Any, path: Path) -> Any:
    """The module tree of the host's MODEL for a file."""
    model = built(host, path)
    host.claim([model], 0)
    return host.module_tree(model)


def saved(path: Path, weights: State, **metadata: str) -> Path:
    save_file({name: tensor.contiguous() for name, tensor in weights.items()}, path, metadata)
    return path


def apart(one: Tensor, other: Tensor) -> float:
    return float((one.float() - other.float()).norm() / other.float().norm())


def core_file(layout: str, options: dict[str, Any]) -> tuple[State, State]:
    """The core's own quantisation of every matrix, and the plain weights it stands for."""
    from comfy.quant_ops import QuantizedTensor

    stored, plain = state(WIDE), state(WIDE)
    for name in quantised_layers(stored):
        scale = {"scale": "recalculate"} if "FP8E" in layout else {}
        packed = QuantizedTensor.from_float(stored.pop(name), layout, **scale, **options)
        plain[name] = packed.dequantize()[: plain[name].shape[0], : plain[name].shape[1]]
        parts = packed.layout_cls.state_dict_tensors(packed._qdata, packed._params)
        stored |= {f"{name}{end}": part for end, part in parts.items()}
    return stored, plain


CORE = [  # the core's name, its layout, how it quantises, what the layer's list says
    ("float8_e4m3fn", "TensorCoreFP8E4M3Layout", {}, {}),
    ("float8_e5m2", "TensorCoreFP8E5M2Layout", {}, {}),
    ("mxfp8", "TensorCoreMXFP8Layout", {}, {}),
    ("nvfp4", "TensorCoreNVFP4Layout", {}, {}),
    ("int8_tensorwise", "TensorWiseINT8Layout", {}, {}),
    ("int8_tensorwise", "TensorWiseINT8Layout", {"per_channel": True}, {}),
    ("int8_tensorwise", "TensorWiseINT8Layout",
     {"per_channel": True, "convrot": True, "convrot_groupsize": 16},
     {"convrot": True, "convrot_groupsize": 16}),
    ("convrot_w4a4", "TensorCoreConvRotW4A4Layout", {"convrot_groupsize": 16},
     {"convrot_groupsize": 16}),
    ("asym_w4a8_int8", "AsymW4A8Int8Layout", {"group_size": 16, "convrot_groupsize": 16},
     {"group_size": 16, "convrot_groupsize": 16}),
]  # fmt: skip


@pytest.mark.parametrize("listed", [True, False], ids=["header", "comfy_quant"])
@pytest.mark.parametrize("case", CORE, ids=str)
@torch.inference_mode()
def test_every_format_of_the_core_runs_through_our_forward(
    host: Any, tmp_path: Path, case: tuple[str, str, dict[str, Any], dict[str, Any]], listed: bool
) -> None:
    """As the host's own forward, and close to the weights that the format stands for."""
    form, layout, how, more = case
    stored, plain = core_file(layout, how)
    layers = [name.removesuffix(".weight") for name in quantised_layers(plain)]
    said = {"format": form, **more}
    metadata = {}
    if listed:
        metadata["_quantization_metadata"] = json.dumps({"layers": dict.fromkeys(layers, said)})
    else:
        text = torch.tensor([*json.dumps(said).encode()], dtype=torch.uint8)
        stored |= {f"{layer}.comfy_quant": text.clone() for layer in layers}
    tree = loaded(host, saved(tmp_path / "self_forcing_quantised.safetensors", stored, **metadata))
    assert type(tree.blocks[1].ffn[0].weight).__name__ == "QuantizedTensor"
    mine, (x, t, context) = ours(tree), inputs()
    wanted = ours(loaded(host, saved(tmp_path / "self_forcing.safetensors", plain)))
    theirs = tree(x, t, context=context)
    rounded = apart(theirs, wanted)  # inputs in 4 bits turn on the last bit
    assert apart(mine, theirs) < max(HALF, rounded / 2)
    loss = apart(ours(loaded(host, saved(tmp_path / "exact.safetensors", state(WIDE)))), wanted)
    assert apart(mine, wanted) < max(HALF, loss / 2, 1.1 * rounded)


@pytest.mark.parametrize("pack", [fp8, int8, nvfp4, nvfp4_with_alpha])
@torch.inference_mode()
def test_lightx2vs_self_forcing_runs_through_our_forward(
    host: Any, tmp_path: Path, pack: Callable[[Tensor], Layer]
) -> None:
    """Its quantised weights, by this test's own unpacking, run in the same host."""
    stored, plain = file_and_meaning(state(WIDE), pack)
    tree = loaded(host, saved(tmp_path / "self_forcing_quantised.safetensors", stored))
    wanted = ours(loaded(host, saved(tmp_path / "self_forcing.safetensors", plain)))
    assert apart(ours(tree), wanted) < HALF
    x, t, context = inputs()
    assert apart(ours(tree), tree(x, t, context=context)) < HALF


@torch.inference_mode()
def test_a_marked_file_of_e5m2_keeps_its_large_numbers(host: Any, tmp_path: Path) -> None:
    stored, plain = file_and_meaning(state(WIDE), wide_fp8)
    stored["model.scaled_fp8"] = torch.zeros(2).to(torch.float8_e5m2)
    tree = loaded(host, saved(tmp_path / "self_forcing_quantised.safetensors", stored))
    wanted = ours(loaded(host, saved(tmp_path / "self_forcing.safetensors", plain)))
    assert apart(ours(tree), wanted) < HALF


@pytest.mark.parametrize("case", CORE[:5], ids=lambda case: str(case[0]))
def test_a_merge_of_quantised_models_is_known_after_a_restart(
    host: Any, tmp_path: Path, case: tuple[str, str, dict[str, Any], dict[str, Any]]
) -> None:
    """The host stores with each weight of the other model a method of its layer, to unpack it.

    That is its `get_key_patches`, but over parameters: 0.33 fails at the scales, which no layer
    holds. The model may be merged into one of plain weights too, and the other way round.
    """
    from comfy.model_patcher import get_key_weight
    from comfy.utils import get_attr as casting  # any function of the host; no weight is computed

    from longtake.nodes.models.identity import identity

    form, layout, how, _ = case
    stored, plain = core_file(layout, how)
    layers = dict.fromkeys(n.removesuffix(".weight") for n in quantised_layers(plain))
    said = json.dumps({"layers": {layer: {"format": form} for layer in layers}})
    path = saved(tmp_path / "m.safetensors", stored, _quantization_metadata=said)
    changed = {n: t if n != "head.head.weight" else 2 * t for n, t in stored.items()}
    other_path = saved(tmp_path / "o.safetensors", changed, _quantization_metadata=said)

    def merge(first: Path, second: Path, share: float = 0.5) -> Any:
        """Two models, loaded anew, as the host's ModelMergeSimple merges them."""
        one, two = (built(host, each) for each in (first, second))
        for name, _ in two.model.named_parameters():
            weight, _, unpack = get_key_weight(two.model, name)
            one.add_patches({name: [(weight, unpack or casting)]}, share, 1 - share)
        return one

    exact = saved(tmp_path / "exact.safetensors", state(WIDE))
    for pair in ((path, other_path), (path, exact), (exact, path)):
        name, reason = identity(merge(*pair))
        assert reason is None
        assert identity(merge(*pair)) == (name, None)
        others = merge(path, path), merge(*pair, 0.25), built(host, path)
        assert name not in [identity(each)[0] for each in others]


@torch.inference_mode()
def test_a_lora_that_is_turned_off_leaves_a_packed_layer_as_it_was(
    host: Any, tmp_path: Path
) -> None:
    """By the live strength 0: the host packs a weight anew that has patches of strength 0."""
    stored, plain = core_file("TensorCoreNVFP4Layout", {})
    layers = [name.removesuffix(".weight") for name in quantised_layers(plain)]
    listing = json.dumps({"layers": dict.fromkeys(layers, {"format": "nvfp4"})})
    path = saved(tmp_path / "self_forcing.safetensors", stored, _quantization_metadata=listing)
    model, name, size = built(host, path), "blocks.0.ffn.2", (SMALL.dim, WIDE.ffn_dim)
    pair = {"lora_up.weight": torch.ones(size[0], 1), "lora_down.weight": torch.ones(1, size[1])}
    parts = {(name, role): tensor for role, tensor in pair.items()}
    patched = host.with_lora(model, parts | {(name, "alpha"): torch.ones(())}, 0.5)

    def velocity(one: Any) -> Tensor:
        host.claim([one], 0)
        return ours(host.module_tree(one))

    own = velocity(model)
    assert apart(velocity(patched), own) > HALF
    assert torch.equal(velocity(host.with_lora_factor(patched, 0.0)), own)
