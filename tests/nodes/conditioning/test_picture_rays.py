"""The rays that ComfyUI's Wan Camera Embedding attaches to a picture's conditioning."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from longtake.errors import BadInput
from longtake.model.config import Camera, DiTConfig
from longtake.nodes.conditioning.reference import end_of_rays, reference
from longtake.samplers.camera.moves import read_motion
from longtake.samplers.camera.script import TimedMotion, path_of_motions
from longtake.samplers.denoiser import local_denoiser
from longtake.samplers.loop import generate
from longtake.samplers.schedule.levels import flow_ladder
from longtake.samplers.schedule.rows import full_sequence
from longtake.tests.support.tiny_model import TINY, randn, random_dit, settings

FRAMES, ROWS, COLUMNS = 3, 4, 6
FUN = replace(TINY, in_channels=8, out_channels=4, camera="fun")


def conditioning(**more: Any) -> list[Any]:
    options = {"concat_latent_image": randn(1, 16, FRAMES, ROWS, COLUMNS, seed=3), **more}
    return [[randn(1, 3, TINY.text_dim), options]]


def rays(frames: int = FRAMES, rows: int = ROWS) -> torch.Tensor:
    return randn(1, 24, frames, 8 * rows, 8 * COLUMNS, seed=4)


def model(camera: Camera, inputs: int = 32) -> DiTConfig:
    return replace(TINY, in_channels=inputs, out_channels=16, camera=camera)


def test_fun_camera_gets_the_rays_and_no_mask() -> None:
    picture = reference(model("fun"), conditioning(camera_conditions=rays()))
    assert picture is not None
    assert picture.rays is not None
    assert torch.equal(picture.rays, rays()[0].transpose(0, 1))
    assert picture.channels.shape[1] == 16
    plain = reference(model("fun", 36), conditioning())
    assert plain is not None
    assert (plain.rays, plain.channels.shape[1]) == (None, 20)
    assert plain.digest != picture.digest


def test_rays_that_nothing_could_use_are_refused() -> None:
    with pytest.raises(BadInput, match="only Fun-Camera models take"):
        reference(model("plucker", 36), conditioning(camera_conditions=rays()))
    for wrong in (rays(rows=6), rays()[:, :6], rays()[0]):
        with pytest.raises(BadInput, match="another size than the picture"):
            reference(model("fun"), conditioning(camera_conditions=wrong))


def test_the_end_of_the_rays_is_said() -> None:
    shot: Any = SimpleNamespace(latent_frames=FRAMES)
    longer: Any = SimpleNamespace(latent_frames=FRAMES + 1)
    endless: Any = SimpleNamespace(latent_frames=None)
    given = rays()[0].transpose(0, 1)
    assert end_of_rays(given, shot) == []
    for length in (longer, endless):
        assert "end after 3 latent frames" in end_of_rays(given, length)[0]


@torch.inference_mode()
def test_rays_move_the_camera_until_a_path_does() -> None:
    from longtake.samplers.conditioning.reference import Reference

    engine = local_denoiser(random_dit(FUN), FUN)
    channels = randn(FRAMES, 4, ROWS, COLUMNS, seed=6)
    given = Reference(channels, rays=rays()[0].transpose(0, 1))
    shot = settings(length=FRAMES, schedule=full_sequence(flow_ladder(2, 3.0)), rows=ROWS,
                    columns=COLUMNS, reference=Reference(channels))  # fmt: skip
    path = path_of_motions([TimedMotion(0, read_motion("left", 1))], 0.25)

    def latents(**changes: Any) -> torch.Tensor:
        return torch.cat([c.latents for c in generate(replace(shot, **changes), engine)])

    assert not torch.allclose(latents(), latents(reference=given), atol=1e-3)
    assert torch.equal(latents(camera=path), latents(camera=path, reference=given))
