"""LingBot-World's camera, window, steps and picture, against its authors' own code.

`tests/data/authors/README.md` says how the file was made.
"""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from longtake.model.dit import WanDiT
from longtake.model.families.table import BY_KEY
from longtake.model.preset import Preset
from longtake.samplers.camera.path import CameraPath, Lens, path_of_poses
from longtake.samplers.conditioning.reference import Reference
from longtake.samplers.denoiser import local_denoiser
from longtake.tests.support.samplers.authors import FOLDER, preset_rollout
from longtake.tests.support.tiny_model import TINY

CONFIG = replace(TINY, in_channels=36, out_channels=16, camera="plucker")
ROUNDED = replace(BY_KEY["lingbot-world-fast"].preset, window_frames=6)
PRESET = replace(ROUNDED, whole_timesteps=False)
RUN = load_file(FOLDER / "lingbot_world.safetensors")
WEIGHTS = load_file(FOLDER / "lingbot_world_weights.safetensors")
WIDTH, HEIGHT = 832, 480  # of the picture that the authors' intrinsics belong to


def camera() -> CameraPath:
    """The run's camera, its intrinsics in parts of the picture."""
    focal_x, focal_y, x, y = RUN["intrinsics"].tolist()
    lens = Lens(focal_x / WIDTH, focal_y / HEIGHT, x / WIDTH, y / HEIGHT)
    return path_of_poses(RUN["poses"], lens=lens)


def picture() -> Reference:
    """The mask of the first latent frame, beside the latents of the picture's video."""
    mask = torch.zeros(len(RUN["picture"]), 4, *RUN["picture"].shape[2:])
    mask[0] = 1
    return Reference(torch.cat([mask, RUN["picture"]], 1))


def latents(path: CameraPath | None, preset: Preset = PRESET) -> Tensor:
    """Ours on the inputs of the authors' run, by a preset."""
    dit = WanDiT(CONFIG)
    dit.load_state_dict({name: tensor.float() for name, tensor in WEIGHTS.items()})
    model = local_denoiser(dit.eval().requires_grad_(False), CONFIG)
    return preset_rollout(
        RUN["text"], RUN["latents"], model, preset, reference=picture(), camera=path
    )


@torch.inference_mode()
def test_the_preset_is_the_authors_own_code() -> None:
    """Five chunks of three, the last two past a window of six latent frames beside the chunk."""
    torch.testing.assert_close(latents(camera()), RUN["latents"], rtol=0, atol=1e-4)


@torch.inference_mode()
def test_whole_timesteps_are_the_authors_up_to_their_ambiguity() -> None:
    """A whole number names several levels: they noise to one and predict from another."""
    ours = latents(camera(), ROUNDED)
    torch.testing.assert_close(ours, RUN["rounded"], rtol=0, atol=6e-3)
    assert (latents(camera()) - RUN["rounded"]).abs().max() > 0.05


@torch.inference_mode()
@pytest.mark.parametrize("fault", ["still", "backwards", "another lens"])
def test_another_camera_is_told_apart(fault: str) -> None:
    poses = RUN["poses"]
    path = {"still": None, "backwards": path_of_poses(poses.flip(0)),
            "another lens": path_of_poses(poses)}[fault]  # fmt: skip
    assert (latents(path) - RUN["latents"]).abs().max() > 0.01


@torch.inference_mode()
def test_the_global_axes_of_the_poses_do_not_matter() -> None:
    elsewhere = replace(camera(), steps=path_of_poses(RUN["poses"][3] @ RUN["poses"]).steps)
    torch.testing.assert_close(latents(elsewhere), RUN["latents"], rtol=0, atol=1e-4)
