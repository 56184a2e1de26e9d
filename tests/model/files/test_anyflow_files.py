"""AnyFlow's files are known by their tensors, under the names of diffusers and official ones."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from longtake.errors import BadInput
from longtake.headless.commands.convert import Conversion, convert
from longtake.model.checkpoint import load_dit, open_checkpoint
from longtake.model.config import config_from_shapes
from longtake.model.families.names import from_diffusers
from longtake.model.families.recognise import recognise
from longtake.model.files.weights import open_weights
from longtake.model.lora.file import open_lora
from longtake.tests.support.model.diffusers_names import to_diffusers
from longtake.tests.support.model.family_files import (
    SIZES,
    SMALL,
    State,
    anyflow_state,
    header_only,
    official_shapes,
    rename,
    state,
)

KINDS = {"anyflow-far": True, "anyflow": False}
CLASSES = {"anyflow-far": "AnyFlowFARTransformer3DModel", "anyflow": "AnyFlowTransformer3DModel"}
TARGET, COARSE = "delta_embedding.2.bias", "far_patch_embedding.weight"


def saved(path: Path, weights: State) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({name: tensor.contiguous() for name, tensor in weights.items()}, path)
    return path


def refusal(path: Path, family: str = "auto") -> str:
    with pytest.raises(BadInput) as caught:
        open_checkpoint(path, family)
    return str(caught.value)


@pytest.mark.parametrize("layout", ["official", "diffusers"])
@pytest.mark.parametrize("key", KINDS)
def test_a_file_of_any_name_is_known_by_its_tensors(tmp_path: Path, key: str, layout: str) -> None:
    weights = anyflow_state(far=KINDS[key])
    named = rename(weights, to_diffusers) if layout == "diffusers" else weights
    opened = open_checkpoint(saved(tmp_path / "model.safetensors", named))
    match = opened.recognition
    assert (match.family.key, match.copy.layout, match.unused) == (key, layout, ())
    assert match.config == replace(SMALL, flow_map=True, coarse_past=KINDS[key])
    assert match.config == config_from_shapes(weights)
    tensors = opened.state()
    assert tensors.keys() == weights.keys()
    assert all(torch.equal(tensors[name], weights[name]) for name in weights)
    assert "causal_ar" not in opened.metadata().get("config", "")  # the core's own lacks layers


@pytest.mark.parametrize("size", ["1.3B", "14B"])
@pytest.mark.parametrize("key", KINDS)
def test_a_folder_of_diffusers_shards_is_recognised_at_its_real_size(
    tmp_path: Path, key: str, size: str
) -> None:
    """Against diffusers' own model and its own configuration, by the index and by any shard."""
    diffusers = pytest.importorskip("diffusers")
    full = f"AnyFlow{'FAR' if KINDS[key] else ''}-{size}"
    dim, ffn, blocks, _, _ = SIZES[full]
    with torch.device("meta"):
        theirs = getattr(diffusers, CLASSES[key])(
            num_attention_heads=dim // 128, ffn_dim=ffn, num_layers=2
        )
    found = {name: tuple(tensor.shape) for name, tensor in theirs.state_dict().items()}
    ours = official_shapes(full, 2)
    assert {from_diffusers(name): shape for name, shape in found.items()} == ours
    shapes = {to_diffusers(name): shape for name, shape in official_shapes(full).items()}
    assert found.items() <= shapes.items()
    folder = tmp_path / "transformer"
    stem = "diffusion_pytorch_model"
    shards = [f"{stem}-0000{i}-of-00002.safetensors" for i in (1, 2)]
    places = {name: shards[i % 2] for i, name in enumerate(shapes)}
    for shard in shards:
        header_only(folder / shard, {n: s for n, s in shapes.items() if places[n] == shard})
    index = folder / f"{stem}.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": places}))
    stated = {**theirs.config, "num_layers": blocks, "_class_name": "FAR_Wan_Transformer3DModel"}
    (folder / "config.json").write_text(json.dumps(stated))
    for path in (folder, index, folder / shards[1]):
        match = recognise(open_weights(path).header)
        assert (match.family.key, match.unused) == (key, ())
        assert match.config.num_layers == blocks


@pytest.mark.parametrize(
    ("name", "shape"),
    [(TARGET, (8,)), (COARSE, (SMALL.dim, 16, 1, 2, 2)), ("delta_embedding.0.weight", (256, 64))],
)
def test_a_misshapen_layer_is_named(tmp_path: Path, name: str, shape: tuple[int, ...]) -> None:
    weights: State = anyflow_state(far=True) | {name: torch.zeros(shape)}
    sentence = refusal(saved(tmp_path / "model.safetensors", weights))
    assert f"{name} is {list(shape)} where the other tensors ask for" in sentence


@pytest.mark.parametrize("name", [TARGET, "far_patch_embedding.bias"])
def test_a_file_without_a_part_of_its_layers_is_refused(tmp_path: Path, name: str) -> None:
    weights = anyflow_state(far=True)
    del weights[name]
    assert f"it has no {name}" in refusal(saved(tmp_path / "model.safetensors", weights))


@pytest.mark.parametrize("names", [str, to_diffusers], ids=["official", "diffusers"])
def test_far_without_a_flow_map_is_another_model(
    tmp_path: Path, names: Callable[[str], str]
) -> None:
    weights = rename(state(replace(SMALL, coarse_past=True)), names)
    sentence = refusal(saved(tmp_path / "far.safetensors", weights))
    assert "is FAR's causal Wan without AnyFlow's flow map" in sentence
    assert sentence.endswith("use an AnyFlow FAR model.")


def test_a_flow_map_with_other_inputs_is_another_model(tmp_path: Path) -> None:
    weights = state(replace(SMALL, flow_map=True, in_channels=36))
    assert "AnyFlow takes 16 channels, and this file 36" in refusal(
        saved(tmp_path / "i2v.safetensors", weights)
    )


def test_a_chosen_family_must_fit_the_tensors(tmp_path: Path) -> None:
    far = saved(tmp_path / "far.safetensors", anyflow_state(far=True))
    plain = saved(tmp_path / "plain.safetensors", state())
    assert "choose auto or one of anyflow-far" in refusal(far, "self-forcing")
    assert "cannot be 'anyflow': its tensors are those of t2v-far" in refusal(far, "anyflow")
    assert "cannot be 'anyflow-far': its tensors are those of t2v;" in refusal(plain, "anyflow-far")
    assert open_checkpoint(far, "anyflow-far").recognition.family.key == "anyflow-far"


@pytest.mark.parametrize("key", KINDS)
def test_a_converted_file_is_the_same_model(tmp_path: Path, key: str) -> None:
    weights = anyflow_state(far=KINDS[key])
    source = saved(tmp_path / "a.safetensors", rename(weights, to_diffusers))
    out = tmp_path / "b.safetensors"
    convert(open_checkpoint(source), out, Conversion(), lambda done, total: None)
    written: dict[str, Tensor] = load_file(out)
    assert written.keys() == weights.keys()
    assert all(torch.equal(written[name], weights[name]) for name in weights)
    assert open_checkpoint(out).recognition.family.key == key
    assert load_dit(out).delta_embedding[2].bias.equal(weights[TARGET])  # without ComfyUI


LORA = {  # a layer, by the names of diffusers and of kohya
    "blocks.1.ffn.0": "lora_unet_blocks_1_ffn_0",
    "delta_embedding.2": "transformer.condition_embedder.delta_embedder.linear_2",
    "delta_embedding.0": "lora_transformer_condition_embedder_delta_embedder_linear_1",
}


def test_a_lora_changes_layers_of_wan_and_of_anyflow(tmp_path: Path) -> None:
    weights = anyflow_state(far=True)
    ends = (".weight", ".modulation")
    layers = {n.removesuffix(".weight"): tuple(t.shape) for n, t in weights.items()
              if n.endswith(ends)}  # fmt: skip
    tensors = {}
    for layer, stored in LORA.items():
        rows, columns = layers[layer]
        up, down = torch.ones(rows, 2), torch.ones(2, columns)
        tensors |= {f"{stored}.lora_up.weight": up, f"{stored}.lora_down.weight": down}
    lora = open_lora(saved(tmp_path / "lora.safetensors", tensors), layers)
    assert {layer for layer, _ in lora.parts} == {*LORA} and not lora.unused
