"""Files that leave open what they hold are refused, and the sentence says what is in doubt."""

from __future__ import annotations

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
