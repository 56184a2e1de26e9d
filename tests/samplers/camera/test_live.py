"""Live keys as motions: their text gives the same bits, and a driven path is the text's path."""

from __future__ import annotations

import math
from dataclasses import fields

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as some

from longtake.nodes.steering.camera_lines import path_of_lines, read_moves
from longtake.samplers.camera.keys import (
    FULL_TURN,
    KEY_PUSH,
    KEYS,
    SHIFT,
    KeyState,
    Push,
    key_push,
    look_push,
)
from longtake.samplers.camera.live import drive_path
from longtake.samplers.camera.moves import (
    STILL,
    CameraMotion,
    read_motion,
    round_speeds,
    write_motion,
)
from longtake.samplers.camera.path import CameraPath, path_of_poses
from longtake.samplers.camera.rigid import from_twist
from longtake.tests.support.samplers.camera_poses import step

FPS = 16.0
SPEEDS = some.floats(-90, 90)


def text_path(text: str) -> CameraPath:
    """The path that a user's lines give."""
    return path_of_lines(read_moves(text), FPS, 4 / FPS)


@settings(max_examples=60)
@given(some.tuples(*[SPEEDS] * len(fields(CameraMotion))))
def test_the_text_of_a_motion_gives_the_motion_back(speeds: tuple[float, ...]) -> None:
    motion = round_speeds(CameraMotion(*speeds))
    assert read_motion(write_motion(motion), 1) == motion
    for name in (field.name for field in fields(CameraMotion)):
        axis = getattr(CameraMotion(*speeds), name)
        assert getattr(motion, name) == pytest.approx(axis, abs=0.005 + 1e-9)


@pytest.mark.parametrize(
    ("keys", "expected"),
    [("w", "forward 0.5"), ("s", "back 0.5"), ("a", "left 0.5"), ("d", "right 0.5"),
     ("e", "up 0.5"), ("q", "down 0.5"), ("left", "pan left 22.5"), ("right", "pan right 22.5"),
     ("up", "tilt up 22.5"), ("down", "tilt down 22.5"), ("shift w", "forward 1"),
     ("shift left", "pan left 45"), ("w s", "still"), ("shift", "still"),
     ("shift w d", "forward 0.71, right 0.71"), ("w left", "forward 0.5, pan left 22.5")],
)  # fmt: skip
def test_keys_move_the_camera_as_they_say(keys: str, expected: str) -> None:
    assert write_motion(KeyState(frozenset(keys.split())).push.motion) == expected


def test_a_motion_is_never_faster_than_full_speed() -> None:
    everything = key_push(frozenset(["w", "d", "e", "right", "up", SHIFT])) + Push((3.0,) * 5)
    motion = everything.motion
    assert math.hypot(motion.right, motion.down, motion.forward) == pytest.approx(1, abs=0.01)
    assert math.hypot(motion.turn, motion.tilt) == pytest.approx(FULL_TURN, abs=0.01)
    assert set(KEYS) == {"w", "a", "s", "d", "q", "e", "left", "right", "up", "down"}
    assert KEY_PUSH == 0.5


def test_1200_pixels_turn_45_degrees_in_whatever_time() -> None:
    for seconds in (1.0, 2.0):
        motion = look_push(1200, 0, seconds).motion
        assert motion.turn * seconds == pytest.approx(FULL_TURN)
    assert look_push(0, 1200, 1.0).motion.tilt == -FULL_TURN  # the mouse went down


BASES = ["0: still", "0: forward\n2: pan left", "0: forward, zoom in\n1 (smooth 3): orbit left 40"]


@pytest.mark.parametrize("base", BASES)
@pytest.mark.parametrize("start", [0, 3, 9])
def test_a_driven_path_is_bit_for_bit_the_path_of_its_lines(base: str, start: int) -> None:
    motions = [key_push(frozenset([*keys])).motion for keys in ("w", "wd", "", "aq", "aq")]
    path = text_path(base)
    for frame, motion in enumerate(motions, start):  # a chunk at a time, each made again
        path = drive_path(path, frame, [(frame, motions[0]), (frame + 1, STILL)])
        path = drive_path(path, frame, [(frame, motion)])
    first_s = (4 * start - 3) / FPS if start else 0.0
    kept = [line for line in base.splitlines() if float(line.split(":")[0].split()[0]) < first_s]
    lines = [
        f"{(4 * frame - 3) / FPS if frame else 0:.2f}: {write_motion(motion)}"
        for frame, motion in enumerate(motions, start)
    ]
    written = text_path("\n".join([*kept, *lines]))
    for frame in range(20):
        assert torch.equal(step(path, frame), step(written, frame)), frame
        assert path.digest_of([frame]) == written.digest_of([frame])
    assert path.starts == written.starts


def test_a_driven_zoom_grows_the_lens_by_its_share_of_a_second() -> None:
    zoom = CameraMotion(zoom=20.0)
    path = drive_path(text_path("0: still"), 1, [(1, zoom), (5, STILL)])
    second = text_path("0: still").lens.focal_x * 1.2  # 4 latent frames of 4 pictures
    assert path.lens_at(4).focal_x == path.lens_at(9).focal_x == pytest.approx(second)


def test_a_drive_over_poses_uses_their_full_speed() -> None:
    eye = torch.eye(4, dtype=torch.float64)
    poses = [eye]
    for _ in range(4):
        poses.append(poses[-1] @ from_twist(torch.tensor([0, 0, 7.0, 0, 0, 0])))
    path = drive_path(
        path_of_poses(torch.stack(poses)), 3, [(3, CameraMotion(forward=1.0)), (4, STILL)]
    )
    assert path.relative([2, 3, 4])[:, 2, 3].tolist() == [1.0, 1.0, 0.0]
    assert torch.equal(step(path, 2), step(path_of_poses(torch.stack(poses)), 2))
