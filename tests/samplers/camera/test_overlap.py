"""What two cameras both see, against points followed one by one."""

from __future__ import annotations

import math
import random
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from longtake.samplers.camera.implied import implied_path
from longtake.samplers.camera.moves import read_motion
from longtake.samplers.camera.overlap import Points, Views, overlap
from longtake.samplers.camera.path import CameraPath, Lens, path_of_poses
from longtake.samplers.camera.rigid import from_twist
from longtake.samplers.camera.script import TimedMotion, path_of_motions
from longtake.samplers.camera.track import CameraTrack
from longtake.tests.support.laws import examples
from longtake.tests.support.samplers.camera_poses import pose

POINTS = Points((1.0, 3.0))
Camera = tuple[torch.Tensor, Lens]


def views(*cameras: Camera) -> Views:
    poses = torch.stack([camera for camera, _ in cameras])
    return Views(poses, torch.tensor([lens.values for _, lens in cameras], dtype=torch.float64))


def test_views_count_in_seconds_at_full_speed_whatever_a_files_unit_is() -> None:
    """Cameras in metres or in millimetres stand alike; the longest step takes a latent frame."""
    poses = torch.eye(4, dtype=torch.float64).repeat(4, 1, 1)
    poses[:, 0, 3] = torch.tensor([0.0, 1.0, 1.5, 3.5])  # the longest step is 2
    for unit in (1.0, 1000.0):
        scaled = poses.clone()
        scaled[:, :3, 3] *= unit
        track = CameraTrack(6, flat_world=False)
        track.extend([path_of_poses(scaled, frame_s=0.25)] * 4)
        assert torch.allclose(track.views.poses[:, 0, 3], poses[:, 0, 3] / 2 * 0.25)


def seen_by_both(a: Camera, b: Camera) -> float:
    """Follow the middle of each cell of a's picture into b's, in plain Python."""
    (from_a, lens_a), (from_b, lens_b) = a, b
    pose_a, pose_b = from_a.tolist(), from_b.tolist()
    count = 0
    for depth in POINTS.depths:
        for row in range(POINTS.rows):
            for column in range(POINTS.columns):
                u, v = (column + 0.5) / POINTS.columns, (row + 0.5) / POINTS.rows
                ray = [(u - lens_a.centre_x) / lens_a.focal_x * depth,
                       (v - lens_a.centre_y) / lens_a.focal_y * depth, depth, 1.0]  # fmt: skip
                world = [sum(pose_a[i][j] * ray[j] for j in range(4)) for i in range(3)]
                apart = [world[i] - pose_b[i][3] for i in range(3)]
                x, y, z = (sum(pose_b[i][j] * apart[i] for i in range(3)) for j in range(3))
                if z > 1e-6:
                    across = lens_b.focal_x * x / z + lens_b.centre_x
                    below = lens_b.focal_y * y / z + lens_b.centre_y
                    count += 0 <= across <= 1 and 0 <= below <= 1
    return count / (len(POINTS.depths) * POINTS.rows * POINTS.columns)


def random_camera(seed: int) -> Camera:
    rng = random.Random(seed)
    twist = torch.tensor([rng.uniform(-1.5, 1.5) for _ in range(6)], dtype=torch.float64)
    return from_twist(twist), Lens(rng.uniform(0.4, 1.5), rng.uniform(0.4, 1.5))


@examples(20)
@given(st.integers(0, 10**6))
def test_overlap_is_the_share_of_points_that_both_see(seed: int) -> None:
    ours = [random_camera(seed + i) for i in range(2)]
    past = [random_camera(seed + 10 + i) for i in range(2)]
    table = overlap(views(*ours), views(*past), POINTS)
    for i, a in enumerate(ours):
        for j, b in enumerate(past):
            assert float(table[i, j]) == pytest.approx(seen_by_both(a, b), abs=2 / 512)


@examples(20)
@given(st.integers(0, 10**6))
def test_moving_the_world_changes_no_overlap(seed: int) -> None:
    a, b, (world, _) = (random_camera(seed + i) for i in range(3))
    moved = [(world @ camera, lens) for camera, lens in (a, b)]
    before = overlap(views(a), views(b), POINTS)
    torch.testing.assert_close(
        overlap(views(moved[0]), views(moved[1]), POINTS), before, rtol=0, atol=2 / 512
    )


def test_a_camera_sees_all_of_its_own_view_and_nothing_behind_it() -> None:
    here = (torch.eye(4, dtype=torch.float64), Lens())
    turn = torch.tensor([0, 0, 0, 0, math.pi, 0], dtype=torch.float64)
    behind = (from_twist(turn), Lens())
    assert float(overlap(views(here), views(here), POINTS)) == 1
    assert float(overlap(views(here), views(behind), POINTS)) == 0


def test_a_closer_look_is_all_within_the_wide_one_and_not_the_reverse() -> None:
    wide, near = ((torch.eye(4, dtype=torch.float64), Lens().grown(f)) for f in (1.0, 2.0))
    assert float(overlap(views(near), views(wide), POINTS)) == 1
    assert float(overlap(views(wide), views(near), POINTS)) == pytest.approx(0.25, abs=0.05)


def steered(track: CameraTrack, path: CameraPath, frames: int) -> Views:
    for _ in range(frames):
        track.extend([path])
    return track.views


@pytest.mark.parametrize("text", ["the camera pans left, a ball", "moving left: hills"])
def test_in_a_flat_world_words_move_the_view_along_a_strip(text: str) -> None:
    columns, track = 12, CameraTrack(12, flat_world=True)
    made = steered(track, implied_path(text), 8)
    expected = [-frame * 4 / (8 * columns) for frame in range(8)]  # 4 pixels a latent frame
    assert made.poses[:, 0, 3].tolist() == pytest.approx(expected)
    shares = overlap(made.at([0]), made, track.scenery)[0].tolist()
    assert shares == pytest.approx([1 - abs(x) for x in expected], abs=1 / POINTS.columns)


@pytest.mark.parametrize("text", ["the camera pans right", "the camera pans left"])
def test_on_a_strip_one_row_of_points_tells_what_many_tell(text: str) -> None:
    track = CameraTrack(12, flat_world=True)
    made = steered(track, implied_path(text), 40)
    ahead = track.ahead([implied_path(text)] * 3)
    many = Points(track.scenery.depths, rows=8)
    assert track.scenery.rows == 1
    assert overlap(ahead, made, track.scenery).equal(overlap(ahead, made, many))
    assert 0 < float(overlap(ahead, made, many).max()) < 1


def test_a_whole_turn_in_the_round_comes_back_and_on_a_strip_it_does_not() -> None:
    path = path_of_motions([TimedMotion(0, read_motion("pan right 90", 1))], 0.25)
    for flat, back in ((False, 1.0), (True, 0.0)):
        track = CameraTrack(4, flat_world=flat)
        made = steered(track, path, 17)  # 4 seconds
        share = float(overlap(made.at([0]), made.at([16]), track.scenery))
        assert share == pytest.approx(back, abs=1 / POINTS.columns)


def test_the_views_ahead_are_those_that_the_camera_then_has() -> None:
    motion = read_motion("forward, turn right 20, zoom in", 1)
    path = path_of_motions([TimedMotion(0, motion)], 0.25)
    track = CameraTrack(4, flat_world=False)
    ahead = track.ahead([path] * 6)
    made = steered(track, path, 6)
    torch.testing.assert_close(made.poses, ahead.poses)
    torch.testing.assert_close(made.lenses, ahead.lenses)
    torch.testing.assert_close(made.poses[5], pose(path, 5))


@pytest.mark.parametrize("flat", [True, False])
def test_views_that_were_asked_for_are_not_worked_out_again(
    flat: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As long as nothing was committed since, and the paths are the same."""
    worked_out = list[int]()
    steps = CameraTrack._steps

    def counted(self: CameraTrack, paths: Any, first: int) -> Any:
        worked_out.append(first)
        return steps(self, paths, first)

    monkeypatch.setattr(CameraTrack, "_steps", counted)
    left, right = (implied_path(f"the camera pans {side}") for side in ("left", "right"))
    track, fresh = (CameraTrack(4, flat_world=flat) for _ in range(2))
    ahead = track.ahead([left, left])
    track.extend([left, left])
    assert worked_out == [0] and torch.equal(track.views.poses, ahead.poses)
    track.ahead([left, left])
    track.extend([left, right])  # the driver turned meanwhile
    assert worked_out == [0, 2, 2]
    fresh.extend([left, left])
    fresh.extend([left, right])
    assert torch.equal(track.views.poses, fresh.views.poses)
    track.views = ahead
    track.extend([left, right])
    assert worked_out[-1] == 2
