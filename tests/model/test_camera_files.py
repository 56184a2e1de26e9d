"""Files of models that take a camera: recognised by their layers, refused where these miss."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from longtake.errors import BadInput
from longtake.model.checkpoint import open_checkpoint
from longtake.tests.support.model.family_files import SMALL, block_fsdp, prefix, rename, state

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
