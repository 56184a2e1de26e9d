"""Files of models that take a camera: recognised by their layers, refused where these miss."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from longtake.errors import BadInput
from longtake.model.checkpoint import open_checkpoint
from longtake.model.families.recognise import recognise
from longtake.model.files.weights import open_weights
from longtake.tests.support.model.family_files import (
    SMALL,
    block_fsdp,
    fun_camera_state,
    header_only,
    matrix_game_state,
    official_shapes,
    prefix,
    rename,
    state,
)

STAGES = {"dmd": "minwm", "causal_cd": "minwm-cd", "causal_ode": "minwm-ode",
          "ar_diffusion_tf": "minwm-ar", "bidirectional": "minwm-bidirectional"}  # fmt: skip


@pytest.mark.parametrize("stage", STAGES)
def test_every_stage_of_minwm_is_known_by_its_folder_and_its_layers(
    tmp_path: Path, stage: str
) -> None:
    config = replace(SMALL, camera="prope")
    content = {"generator": rename(state(config), prefix("model.")),
               "generator_ema": rename(state(config, 1), block_fsdp)}  # fmt: skip
    path = tmp_path / f"ckpts/Wan21/Action2V/{stage}/model.pt"
    path.parent.mkdir(parents=True)
    torch.save(content, path)
    opened = open_checkpoint(path)
    assert opened.recognition.family.key == STAGES[stage]
    assert opened.recognition.config == config
    assert opened.recognition.unused == ()
    for name, value in state(config, 1).items():
        assert torch.equal(opened.state()[name], value), name


def test_a_camera_model_without_one_of_its_layers_is_refused(tmp_path: Path) -> None:
    weights = state(replace(SMALL, camera="prope"))
    del weights["blocks.1.self_attn.prope_o.bias"]
    save_file(weights, tmp_path / "minwm.safetensors")
    with pytest.raises(BadInput, match=r"blocks\.1\.self_attn\.prope_o\.bias"):
        open_checkpoint(tmp_path / "minwm.safetensors")


def test_a_model_with_a_state_is_known_by_its_layers_and_begins_with_its_window(
    tmp_path: Path,
) -> None:
    weights = state(replace(SMALL, state="delta"))
    save_file(weights, tmp_path / "causal.safetensors")
    recognition = open_checkpoint(tmp_path / "causal.safetensors").recognition
    assert recognition.config == replace(SMALL, state="delta") and recognition.unused == ()
    assert recognition.family.preset.state
    del weights["blocks.1.self_attn.delta.gate.bias"]
    save_file(weights, tmp_path / "causal.safetensors")
    with pytest.raises(BadInput, match=r"blocks\.1\.self_attn\.delta\.gate\.bias"):
        open_checkpoint(tmp_path / "causal.safetensors")


@pytest.mark.parametrize(
    ("place", "size", "key"),
    [("minWM/Wan21/Action2V/dmd/model.safetensors", "minWM", "minwm"),
     ("Matrix-Game-2.0/base_distilled_model/base_distill.safetensors", "MatrixGame-4",
      "matrix-game-2"),
     ("gta_distilled_model/gta_keyboard2dim.safetensors", "MatrixGame-2",
      "matrix-game-2-drive"),
     ("Wan2.1-Fun-V1.1-1.3B-Control-Camera.safetensors", "FunCamera-1.3B", "wan21-fun-camera"),
     ("wan2.2_fun_camera_high_noise_14B_bf16.safetensors", "FunCamera-A14B", "wan22-fun-camera")],
)  # fmt: skip
def test_a_published_file_is_recognised_at_its_real_size(
    tmp_path: Path, place: str, size: str, key: str
) -> None:
    match = recognise(open_weights(header_only(tmp_path / place, official_shapes(size))).header)
    assert (match.family.key, match.unused) == (key, ())
    assert match.config.head_dim == 128


def test_fun_cameras_adapter_on_another_model_is_refused(tmp_path: Path) -> None:
    save_file(state(replace(SMALL, camera="fun")), tmp_path / "model.safetensors")
    with pytest.raises(BadInput, match="a Fun-Camera takes 32 or 36 channels, and this file 16"):
        open_checkpoint(tmp_path / "model.safetensors")


def test_small_files_of_fun_camera_are_whole(tmp_path: Path) -> None:
    for clip, key in ((True, "wan21-fun-camera"), (False, "wan22-fun-camera")):
        save_file(fun_camera_state(clip=clip), tmp_path / f"{clip}.safetensors")
        opened = open_checkpoint(tmp_path / f"{clip}.safetensors")
        assert (opened.recognition.family.key, opened.recognition.unused) == (key, ())
        assert opened.recognition.config.camera == "fun"


def test_a_small_matrix_game_is_whole_under_its_wrappers_names(tmp_path: Path) -> None:
    """The weights of four norms are in the file, and its authors' code does not read them."""
    path = tmp_path / "base_distill.safetensors"
    save_file(rename(matrix_game_state(), prefix("model.")), path)
    opened = open_checkpoint(path)
    assert opened.recognition.family.key == "matrix-game-2"
    assert len(opened.recognition.unused) == 4
    assert all("_norm.weight" in name for name in opened.recognition.unused)
    assert opened.recognition.config.action is not None
    assert not opened.recognition.config.reads_prompt


@pytest.mark.parametrize("name", ["img_emb.proj.1.bias", "blocks.0.action_model.proj_mouse.weight"])
def test_a_matrix_game_without_one_of_its_layers_is_refused(tmp_path: Path, name: str) -> None:
    weights = matrix_game_state()
    del weights[name]
    save_file(weights, tmp_path / "game.safetensors")
    with pytest.raises(BadInput, match=name.replace(".", r"\.")):
        open_checkpoint(tmp_path / "game.safetensors")


def test_a_matrix_game_of_other_keys_is_refused(tmp_path: Path) -> None:
    save_file(matrix_game_state(keys=6), tmp_path / "game.safetensors")
    with pytest.raises(BadInput, match="2 or 4 keys, and this file 36 channels and 6 keys"):
        open_checkpoint(tmp_path / "game.safetensors")
