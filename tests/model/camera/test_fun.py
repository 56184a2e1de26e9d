"""Fun-Camera's rays of each picture, and what it adds to the patches."""

from __future__ import annotations

from dataclasses import replace

import torch

from longtake.model.camera.frames import PlacedCameras
from longtake.model.camera.fun import FULL_STEP, adapt, fun_hooks, ray_maps
from longtake.samplers.camera.moves import read_motion
from longtake.samplers.camera.path import CameraPath, Lens
from longtake.samplers.camera.rigid import fractions, from_twist
from longtake.samplers.camera.script import TimedMotion, path_of_motions
from longtake.tests.support.tiny_model import TINY, randn, random_dit

ROWS, COLUMNS = 4, 6
TREE = random_dit(replace(TINY, camera="fun"))


def path(text: str) -> CameraPath:
    return path_of_motions([TimedMotion(0, read_motion(text, 1))], 0.25)


def cameras(text: str, frames: tuple[int, ...] = (0, 1, 2)) -> PlacedCameras:
    lenses = torch.tensor([Lens().values] * 4 * len(frames))
    return PlacedCameras(path(text).placed_pictures(frames, 4), lenses)


def test_a_motion_falls_into_equal_parts() -> None:
    twist = torch.tensor([0.3, -0.2, 0.5, 0.4, -0.3, 1.2], dtype=torch.float64)
    for part, motion in enumerate(fractions(from_twist(twist), 4), 1):
        torch.testing.assert_close(motion, from_twist(twist * part / 4))


def test_the_first_latent_frame_is_one_picture_and_the_others_four() -> None:
    maps = ray_maps(cameras("forward, pan left"), (ROWS, COLUMNS)).unflatten(1, (6, 4))
    assert torch.equal(maps[0], maps[0, :, :1].expand_as(maps[0]))
    for frame in (1, 2):
        assert len({maps[frame, :, i].sum().item() for i in range(4)}) == 4


def test_a_ray_is_its_moment_and_its_direction() -> None:
    """Pixel (5, 9) of the third picture of latent frame 1, by hand."""
    made = cameras("right, tilt up 20")
    ray = ray_maps(made, (ROWS, COLUMNS)).unflatten(1, (6, 4))[1, :, 2, 5, 9]
    pose, lens = made.poses[4 + 2], Lens()
    x = (9.5 / (8 * COLUMNS) - lens.centre_x) / lens.focal_x
    y = (5.5 / (8 * ROWS) - lens.centre_y) / lens.focal_y
    direction = pose[:3, :3] @ torch.tensor([x, y, 1.0], dtype=torch.float64)
    direction = direction / direction.norm()
    origin = 4 * FULL_STEP * pose[:3, 3]
    expected = torch.cat([torch.linalg.cross(origin, direction), direction]).float()
    torch.testing.assert_close(ray, expected)
    assert abs(float(torch.linalg.cross(origin, direction).norm())) > 1e-3


def test_a_part_of_a_clip_has_the_axes_of_its_own_first_picture() -> None:
    part = cameras("forward, pan left", (5, 6))
    torch.testing.assert_close(part.poses[0], torch.eye(4, dtype=torch.float64))
    again = cameras("forward, pan left", (9, 10))
    torch.testing.assert_close(part.poses, again.poses)


def test_the_hook_adds_the_adapters_features_to_the_patches() -> None:
    made, tokens = cameras("left"), randn(2, 3, ROWS * COLUMNS // 4, TINY.dim)
    hook = fun_hooks(TREE, made, (ROWS, COLUMNS)).patches[0]
    addition = adapt(TREE, ray_maps(made, (ROWS, COLUMNS)))
    torch.testing.assert_close(hook(tokens), tokens + addition)
    assert addition.std() > 0.01
