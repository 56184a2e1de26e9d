"""Layers that take a camera, which the core does not know, in a MODEL of the real core."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from longtake.attention.dense import WholeSequence
from longtake.attention.rope import rotation
from longtake.model.camera.frames import CameraFrames
from longtake.model.camera.modules import CAMERA_MODULES
from longtake.model.checkpoint import open_checkpoint
from longtake.model.config import Camera, DiTConfig, config_from_shapes
from longtake.model.dit import PassOptions, predict, project_text
from longtake.samplers.camera.moves import read_motion
from longtake.samplers.camera.script import TimedMotion, path_of_motions
from longtake.tests.support.model.family_files import SMALL, state

FRAMES, ROWS, COLUMNS = 3, 8, 12


def camera_frames() -> CameraFrames:
    path = path_of_motions([TimedMotion(0, read_motion("forward, pan left", 1))], 0.25)
    lenses = torch.tensor([path.lens_at(frame).values for frame in range(FRAMES)])
    turns = path.turns_of(path.steps_of(range(FRAMES))).float()
    steps, travel = path.relative(range(FRAMES)), -torch.arange(FRAMES).double()
    return CameraFrames(steps, lenses, turns, ROWS, COLUMNS, travel)


@torch.inference_mode()
def velocity(tree: Any, config: DiTConfig) -> torch.Tensor:
    """One pass of our forward over a module tree, with the camera's hooks."""
    seeded = torch.Generator().manual_seed(0)
    x = torch.randn(1, FRAMES, config.in_channels, ROWS, COLUMNS, generator=seeded)
    text = project_text(tree, torch.randn(1, 1, 9, config.text_dim, generator=seeded))
    attention = WholeSequence(rotation(range(FRAMES), ROWS // 2, COLUMNS // 2, config.head_dim))
    module = CAMERA_MODULES[config.camera]
    hooks = module.hooks(tree, camera_frames())
    if module.second is not None:  # any other attention, since both trees get the same one
        hooks = hooks.then(module.second.hooks(tree, attention))
    options = PassOptions(hooks=hooks)
    return predict(tree, x, torch.full((1, FRAMES), 500.0), text, attention, options).velocity


@pytest.mark.parametrize("quality", ["fast", "full"])
def test_the_demos_camera_is_there_without_a_warning(
    core: Any, caplog: pytest.LogCaptureFixture, quality: str
) -> None:
    from longtake.nodes import host
    from longtake.nodes.models.load_demo import LoadDemoModel

    model, *_ = LoadDemoModel.execute(quality).args
    tree = host.module_tree(model)
    assert tree.action_embedding[2].weight.count_nonzero() and len(tree.world_turns) == 2
    assert not [text for text in caplog.messages if "unexpected" in text or "missing" in text]


INPUTS = [("action", 16), ("columns", 16), ("plucker", 36), ("prope", 16)]


@pytest.mark.parametrize(("kind", "inputs"), INPUTS)
def test_the_hosts_model_gets_the_layers_of_the_camera(
    core: Any, tmp_path: Path, kind: Camera, inputs: int
) -> None:
    from longtake.nodes import host

    config = replace(SMALL, camera=kind, in_channels=inputs)
    weights = state(config)
    path = tmp_path / "lingbot_world_fast.safetensors"
    save_file(weights, path)
    checkpoint = open_checkpoint(path)
    assert checkpoint.recognition.config == config
    model = host.build_diffusion_model(checkpoint.state, checkpoint.metadata(), torch.float32)
    host.claim([model], 0)
    tree = host.module_tree(model)
    assert config_from_shapes(dict(tree.named_parameters()), 2).camera == kind
    assert model.model_size() >= sum(tensor.nbytes for tensor in weights.values())
    from longtake.model.dit import WanDiT

    plain = WanDiT(config)
    plain.load_state_dict(weights)
    torch.testing.assert_close(velocity(tree, config), velocity(plain, config), atol=1e-4, rtol=0)
