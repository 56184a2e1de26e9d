"""minWM's second attention by cameras, against its authors' own code.

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
from longtake.samplers.camera.path import CameraPath, Lens, path_of_poses
from longtake.samplers.denoiser import local_denoiser
from longtake.tests.support.samplers.authors import FOLDER, preset_rollout
from longtake.tests.support.tiny_model import TINY

CONFIG = replace(TINY, camera="prope")
PRESET = replace(BY_KEY["minwm"].preset, window_frames=8)  # their run had 12, the chunk included
RUN = load_file(FOLDER / "minwm.safetensors")
WEIGHTS = load_file(FOLDER / "weights.safetensors")


def camera(poses: Tensor = RUN["poses"]) -> CameraPath:
    """The run's camera."""
    lens = RUN["intrinsics"]
    return path_of_poses(poses, lens=Lens(float(lens[0, 0]), float(lens[1, 1])))


def latents(path: CameraPath | None) -> Tensor:
    """Ours on the inputs of the authors' run."""
    dit = WanDiT(CONFIG)
    dit.load_state_dict({**WEIGHTS, **{n: t for n, t in RUN.items() if n.startswith("blocks.")}})
    model = local_denoiser(dit.eval().requires_grad_(False), CONFIG)
    return preset_rollout(RUN["text"], RUN["latents"], model, PRESET, camera=path)


@torch.inference_mode()
def test_the_preset_is_the_authors_own_code() -> None:
    """Six chunks of four, the last three past a window of eight latent frames beside the chunk."""
    torch.testing.assert_close(latents(camera()), RUN["latents"], rtol=0, atol=1e-4)


@torch.inference_mode()
@pytest.mark.parametrize("fault", ["still", "backwards", "another lens"])
def test_another_camera_is_told_apart(fault: str) -> None:
    poses = RUN["poses"]
    path = {"still": None, "backwards": camera(poses.flip(0)),
            "another lens": path_of_poses(poses)}[fault]  # fmt: skip
    assert (latents(path) - RUN["latents"]).abs().max() > 0.01


@torch.inference_mode()
def test_the_axes_of_the_world_do_not_matter() -> None:
    elsewhere = camera(RUN["poses"][3] @ RUN["poses"])
    torch.testing.assert_close(latents(elsewhere), RUN["latents"], rtol=0, atol=1e-4)
