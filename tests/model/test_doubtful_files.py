"""Files that leave open what they hold are refused, and the sentence says what is in doubt."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from longtake.errors import BadInput
from longtake.model.checkpoint import load_dit, open_checkpoint
from longtake.tests.support.model.family_files import (
    SMALL,
    State,
    image_state,
    prefix,
    rename,
    state,
)

FIRST, SECOND = (f"x-0000{i}-of-00002.safetensors" for i in (1, 2))
HIGH, LOW = prefix("high_noise."), prefix("low_noise.")


def stored(path: Path, weights: State) -> Path:
    save_file({name: tensor.contiguous() for name, tensor in weights.items()}, path)
    return path


def refusal(path: Path, copy: str = "auto") -> str:
    with pytest.raises(BadInput) as caught:
        open_checkpoint(path, copy=copy)
    return str(caught.value)


@pytest.mark.parametrize("copy", ["auto", "ema", "raw"])
def test_of_two_models_in_a_file_none_is_taken_at_random(tmp_path: Path, copy: str) -> None:
    both = rename(state(), HIGH) | rename(state(seed=1), LOW)
    sentence = refusal(stored(tmp_path / "wan2.2.safetensors", both), copy)
    assert "holds 2 models, and nothing says which to take" in sentence
    assert "'high_noise.' and 'low_noise.'" in sentence


def test_an_averaged_copy_is_told_from_two_others(tmp_path: Path) -> None:
    copies = rename(state(), prefix("ema.")) | rename(state(seed=1), HIGH)
    path = stored(tmp_path / "x.safetensors", copies | rename(state(seed=2), LOW))
    assert open_checkpoint(path).recognition.copy.prefix == "ema."
    assert "'high_noise.' and 'low_noise.'" in refusal(path, "raw")


@pytest.mark.parametrize("dim", [192, 320])
def test_heads_are_not_guessed_where_no_wan_model_has_such_a_width(
    tmp_path: Path, dim: int
) -> None:
    weights = state(replace(SMALL, dim=dim))
    sentence = refusal(stored(tmp_path / "x.safetensors", weights))
    assert f"its {dim} channels are no heads of 128" in sentence


@pytest.mark.parametrize("block", [0, 1])
def test_a_damaged_image_branch_is_not_taken_for_a_model_without_one(
    tmp_path: Path, block: int
) -> None:
    lost = f"blocks.{block}.cross_attn.k_img.weight"
    weights = {name: tensor for name, tensor in image_state().items() if name != lost}
    assert f"it has no {lost}" in refusal(stored(tmp_path / "i2v.safetensors", weights))


def test_what_is_missing_is_named_and_not_quoted_alone(tmp_path: Path) -> None:
    weights = {n: t for n, t in state().items() if n != "head.modulation"}
    assert "(it has no head.modulation)" in refusal(stored(tmp_path / "x.safetensors", weights))


@pytest.mark.parametrize("suffix", [".safetensors", ".pt", ".gguf"])
def test_an_empty_file_is_called_empty(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"x{suffix}"
    path.touch()
    assert refusal(path) == f"{path} is empty; download it again."


def test_a_suffix_in_capitals_is_the_same(tmp_path: Path) -> None:
    path = stored(tmp_path / "X.SAFETENSORS", state())
    assert torch.equal(load_dit(path).head.modulation, state()["head.modulation"])


@pytest.mark.parametrize(
    "second", ["_fsdp_wrapped_module.head.head.weight", "head._orig_mod.head.weight"]
)
def test_of_two_tensors_of_one_name_none_is_taken_at_random(tmp_path: Path, second: str) -> None:
    """Trainers leave wrappers in names; without them the two are one tensor of the model."""
    weights = state()
    other = {second: torch.zeros_like(weights["head.head.weight"])}
    sentence = refusal(stored(tmp_path / "x.safetensors", weights | other))
    assert "holds a tensor twice: " in sentence
    assert "head.head.weight" in sentence and second in sentence


def test_an_index_says_which_shard_a_doubled_tensor_is_taken_from(tmp_path: Path) -> None:
    weights, name = state(), "head.head.weight"
    places = dict.fromkeys(weights, FIRST)
    stored(tmp_path / FIRST, weights)
    stored(tmp_path / SECOND, {name: torch.zeros_like(weights[name]), "freqs": torch.zeros(1)})
    index = tmp_path / "x.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": places | {"freqs": SECOND}}))
    assert torch.equal(open_checkpoint(index).read(name), weights[name])
    assert f"{FIRST} and {SECOND} both hold {name}" in refusal(tmp_path / FIRST)
    index.write_text(json.dumps({"weight_map": places | {"blocks.0.ffn.0.bias": SECOND}}))
    assert f"{SECOND} does not hold blocks.0.ffn.0.bias" in refusal(index)


PACKED = {  # by whom: the tensors in place of a weight
    "quanto": {"weight._data": torch.int8, "weight._scale": torch.float32},
    "Nunchaku": {"qweight": torch.int8, "wscales": torch.bfloat16, "proj_up": torch.bfloat16},
    "AWQ": {"qweight": torch.int32, "qzeros": torch.int32, "scales": torch.float16},
    "TurboDiffusion": {"int8_weight": torch.int8, "scale": torch.float32},
    "bitsandbytes": {"weight": torch.uint8, "weight.absmax": torch.float32,
                     "weight.quant_map": torch.float32},
}  # fmt: skip


@pytest.mark.parametrize("by", PACKED)
def test_weights_that_another_program_packed_are_called_so(tmp_path: Path, by: str) -> None:
    """They are a Wan model all the same, only not for this program."""
    weights = state()
    for layer in (f"blocks.{n}.self_attn.{name}" for n in range(2) for name in "qkvo"):
        del weights[f"{layer}.weight"]
        weights |= {f"{layer}.{end}": torch.ones(4, 4, dtype=d) for end, d in PACKED[by].items()}
    sentence = refusal(stored(tmp_path / "self_forcing.safetensors", weights))
    assert "is packed for another program (" in sentence and by in sentence
    assert "use an fp8, int8, NVFP4 or bf16 file" in sentence


@pytest.mark.parametrize("extra", [
    "patch_embedding_fuse.weight",  # SteadyDancer
    "blocks.0.cam_encoder.weight",  # ReCamMaster
    "blocks.1.cross_attn.ip_adapter.to_k_ip.weight",  # Lynx
    "blocks.0.cross_attn.k_fusion.weight",  # Ovi
    "blocks.0.control_blocks_dense.ffn.0.weight",  # LongVie 2
    "text_projection.0.weight",  # BindWeave
    "blocks.0.cross_attn.emo_k_proj.weight",  # FlashPortrait
])  # fmt: skip
def test_a_relative_of_wan_does_not_run_without_its_inputs(tmp_path: Path, extra: str) -> None:
    """Its other weights were trained with them."""
    weights = state() | {extra: torch.ones(4, 4)}
    sentence = refusal(stored(tmp_path / "wan.safetensors", weights))
    assert "is a Wan control, audio or character model" in sentence
