"""Files with a LoRA that PEFT left beside the weights: AvatarForcing's."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from longtake.errors import BadInput
from longtake.headless.commands.convert import Conversion, convert
from longtake.model.checkpoint import open_checkpoint
from longtake.model.families.memory import memory_plan
from longtake.tests.support.model.family_files import State, adapted_state, speaking_state, state
from longtake.tests.support.tiny_model import randn

ALPHA, RANK = 64.0, 4
LAYER = "blocks.0.self_attn.q"


def saved(folder: Path, weights: State, **prefixed: State) -> Path:
    """A pickle with the raw copy, as the authors publish it, and other copies."""
    path = folder / "model.pt"
    raw = {f"model.{name}": tensor for name, tensor in weights.items()}
    torch.save({"generator": raw, **prefixed}, path)
    return path


def test_a_layer_multiplies_by_its_weight_and_adapter_as_in_training(tmp_path: Path) -> None:
    """PEFT's forward pass is base(x) + B(A(x)) alpha / rank, in every adapted layer."""
    weights = speaking_state()
    stored = adapted_state(weights, RANK)
    tensors = open_checkpoint(saved(tmp_path, stored)).state()
    assert tensors.keys() == weights.keys()
    adapted = [name for name in stored if ".lora_A." in name]
    assert len(adapted) == 4 * 10  # of 4 blocks, all that attention and the MLP multiply by
    for name in adapted:
        layer, x = name.partition(".lora_A.")[0], randn(3, stored[name].shape[1], seed=5)
        down, up = stored[name], stored[name.replace("lora_A", "lora_B")]
        trained = x @ weights[f"{layer}.weight"].T + x @ down.T @ up.T * (ALPHA / RANK)
        torch.testing.assert_close(x @ tensors[f"{layer}.weight"].T, trained, rtol=1e-4, atol=1e-4)
    others = [name for name in weights if f"{name[:-7]}.lora_A.default.weight" not in stored]
    assert all(torch.equal(tensors[name], weights[name]) for name in others)


def test_the_file_is_avatar_forcing_and_its_raw_copy_is_taken(tmp_path: Path) -> None:
    stored = adapted_state(speaking_state(), RANK)
    averaged = {f"model._fsdp_wrapped_module.{name}": 2 * t for name, t in stored.items()}
    found = open_checkpoint(saved(tmp_path, stored, generator_ema=averaged)).recognition
    assert found.family.key == "avatar-forcing" and found.unused == ()
    assert "weights: with the LoRA that the file holds beside them, alpha 64" in found.reasons
    assert found.copy.prefix == "generator.model."


def test_its_memory_is_that_of_the_merged_weights(tmp_path: Path) -> None:
    weights = speaking_state()
    adapted = open_checkpoint(saved(tmp_path, adapted_state(weights, RANK))).recognition
    merged = open_checkpoint(saved(tmp_path, weights)).recognition
    plans = [memory_plan(model, 832, 480).weight_bytes for model in (adapted, merged)]
    assert plans[0] == plans[1]


def test_convert_writes_the_merged_weights_and_the_family(tmp_path: Path) -> None:
    checkpoint = open_checkpoint(saved(tmp_path, adapted_state(speaking_state(), RANK)))
    target = tmp_path / "converted.safetensors"
    convert(checkpoint, target, Conversion(), lambda done, total: None)
    again = open_checkpoint(target)
    assert (
        again.recognition.family.key == "avatar-forcing" and not again.recognition.adapters.factors
    )
    merged = checkpoint.state()
    assert all(torch.equal(tensor, merged[name]) for name, tensor in again.state().items())


def test_bfloat16_weights_stay_bfloat16(tmp_path: Path) -> None:
    half = {name: t.bfloat16() for name, t in adapted_state(speaking_state(), RANK).items()}
    tensors = open_checkpoint(saved(tmp_path, half)).state()
    assert {tensor.dtype for tensor in tensors.values()} == {torch.bfloat16}


def refused(folder: Path, weights: State, words: str) -> None:
    with pytest.raises(BadInput, match=words):
        open_checkpoint(saved(folder, weights))


def test_a_lora_of_unknown_strength_is_refused(tmp_path: Path) -> None:
    """Alpha is in no tensor; only the row of a family knows it."""
    refused(tmp_path, adapted_state(state(), RANK), "nothing says how strong it is; use a file")


@pytest.mark.parametrize(
    ("name", "replacement", "words"),
    [
        (f"{LAYER}.lora_B.default.weight", None, f"of that of {LAYER}.weight one factor"),
        (f"{LAYER}.lora_B.default.weight", torch.zeros(7, RANK), "has the sizes"),
        (f"{LAYER}.lora_A.default.weight", torch.zeros(0, 256), "has the sizes"),
        ("blocks.9.ffn.0.lora_A.default.weight", torch.zeros(4, 4), "there is no blocks.9.ffn.0"),
    ],
)
def test_a_damaged_adapter_is_refused(
    tmp_path: Path, name: str, replacement: torch.Tensor | None, words: str
) -> None:
    weights = adapted_state(speaking_state(), RANK)
    weights.pop(name, None)
    refused(tmp_path, weights | ({} if replacement is None else {name: replacement}), words)


def test_quantised_weights_with_an_adapter_are_refused(tmp_path: Path) -> None:
    weights = adapted_state(speaking_state(), RANK)
    weights[f"{LAYER}.base_layer.weight"] = torch.zeros(256, 256, dtype=torch.float8_e4m3fn)
    weights[f"{LAYER}.base_layer.weight_scale"] = torch.ones(())
    refused(tmp_path, weights, "cannot be added: .*is F8_E4M3")


def test_a_weight_that_is_there_with_and_without_an_adapter_is_refused(tmp_path: Path) -> None:
    weights = adapted_state(speaking_state(), RANK)
    weights[f"{LAYER}.weight"] = weights[f"{LAYER}.base_layer.weight"]
    refused(tmp_path, weights, "holds a tensor twice")


def test_a_lora_alone_is_still_no_model(tmp_path: Path) -> None:
    weights = adapted_state(speaking_state(), RANK)
    path = tmp_path / "lora.safetensors"
    save_file({n: t for n, t in weights.items() if ".lora_" in n}, path, {"a": json.dumps({})})
    with pytest.raises(BadInput, match="is a LoRA"):
        open_checkpoint(path)
