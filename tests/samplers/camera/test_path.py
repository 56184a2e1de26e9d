"""A camera path: rigid steps, exact after a change, independent of how it is divided."""

from __future__ import annotations

import math
from collections import Counter

import pytest
import torch

from longtake.errors import BadInput
from longtake.samplers.camera.moves import ORBIT_DISTANCE, CameraMotion, read_motion
from longtake.samplers.camera.path import MAX_ZOOM, CameraPath, Lens, PathEntry, path_of_poses
from longtake.samplers.camera.rigid import from_twist, inverse
from longtake.samplers.camera.script import TimedMotion, path_of_motions
from longtake.tests.support.samplers.camera_poses import pose, step
from longtake.tests.support.tiny_model import randn

FRAME_S = 0.25


def brute_force_turn(twist: torch.Tensor) -> torch.Tensor:
    """The matrix exponential that torch computes without Rodrigues' formula."""
    (a, b, c), (x, y, z) = twist[:3].tolist(), twist[3:].tolist()
    rows = [[0, -z, y, a], [z, 0, -x, b], [-y, x, 0, c], [0, 0, 0, 0]]
    return torch.linalg.matrix_exp(torch.tensor(rows, dtype=torch.float64))


def random_poses(count: int, seed: int = 0) -> torch.Tensor:
    """Cameras (count, 4, 4) anywhere, in any direction."""
    return torch.stack([from_twist(randn(6, seed=seed + i).double()) for i in range(count)])


def path(*entries: tuple[int, str]) -> CameraPath:
    """A path of moves at latent frames."""
    return path_of_motions([TimedMotion(f, read_motion(t, 1)) for f, t in entries], FRAME_S)


@pytest.mark.parametrize("scale", [1e-9, 1e-3, 1.0, 3.0])
def test_a_twist_is_the_matrix_exponential(scale: float) -> None:
    twist = scale * randn(6, seed=3).double()
    assert torch.allclose(from_twist(twist), brute_force_turn(twist), atol=1e-12)


def test_the_inverse_undoes_a_motion() -> None:
    poses = random_poses(4)
    eye = torch.eye(4, dtype=torch.float64).expand(4, 4, 4)
    assert torch.allclose(inverse(poses) @ poses, eye, atol=1e-12)


@pytest.mark.parametrize(
    ("move", "ahead", "point"),
    [("pan right", (1, 0, 0), None), ("pan left", (-1, 0, 0), None), ("tilt up", (0, -1, 0), None),
     ("tilt down", (0, 1, 0), None), ("forward", None, (0, 0, 6)), ("back", None, (0, 0, -6)),
     ("left", None, (-6, 0, 0)), ("up", None, (0, -6, 0)), ("down", None, (0, 6, 0))],
)  # fmt: skip
def test_moves_go_where_their_names_say(move: str, ahead: object, point: object) -> None:
    """In x right, y down, z forward: 6 s of a move at 15 degrees a second is a right angle."""
    camera = pose(path((0, move)), round(6 / FRAME_S))
    if ahead is not None:
        assert torch.allclose(camera[:3, 2], torch.tensor(ahead, dtype=torch.float64), atol=1e-9)
    else:
        expected = torch.tensor(point, dtype=torch.float64)
        assert torch.allclose(camera[:3, 3], expected, atol=1e-9)


def test_rolling_right_lowers_the_right_side() -> None:
    assert pose(path((0, "roll right")), 1)[1, 0] > 0 > pose(path((0, "roll left")), 1)[1, 0]


@pytest.mark.parametrize(("move", "side"), [("orbit right", 1), ("orbit left", -1)])
def test_an_orbit_keeps_its_centre_in_view(move: str, side: int) -> None:
    centre = torch.tensor([0.0, 0.0, ORBIT_DISTANCE, 1.0], dtype=torch.float64)
    for frame in (1, 7, 30):
        camera = pose(path((0, move)), frame)
        assert torch.allclose(inverse(camera) @ centre, centre, atol=1e-9)
    assert side * pose(path((0, move)), 1)[0, 3] > 0


def test_a_path_does_not_depend_on_the_length_of_its_steps() -> None:
    motion = [TimedMotion(0, read_motion("forward, turn right 20, roll left", 1))]
    coarse, fine = path_of_motions(motion, FRAME_S), path_of_motions(motion, FRAME_S / 2)
    assert torch.allclose(pose(coarse, 9), pose(fine, 18), atol=1e-12)


def test_frame_0_never_moves_and_nothing_moves_in_a_still_entry() -> None:
    route = path((0, "forward"), (3, "pan left"), (5, "still"))
    eye = torch.eye(4, dtype=torch.float64)
    assert torch.equal(step(route, 0), eye)
    assert not torch.equal(step(route, 4), eye)
    assert torch.equal(step(route, 7), eye)


@pytest.mark.parametrize("origin", [0, 4, 6, 11])
def test_placed_cameras_are_products_of_the_steps_between_them(origin: int) -> None:
    route, frames = path((0, "forward 2, turn right 20"), (3, "left"), (7, "roll left")), [1, 6, 9]
    poses = [torch.eye(4, dtype=torch.float64)]
    for frame in range(1, 12):
        poses.append(poses[-1] @ route.relative([frame])[0])
    expected = [inverse(poses[origin]) @ poses[frame] for frame in frames]
    assert torch.allclose(route.placed(frames, origin), torch.stack(expected), atol=1e-12)


def test_a_chunk_of_a_long_drive_costs_no_more_motions_than_one_of_a_short(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made = Counter[str]()
    power = torch.linalg.matrix_power

    def counted(matrix: torch.Tensor, n: int) -> torch.Tensor:
        made["motions"] += 1
        return power(matrix, n)

    monkeypatch.setattr(torch.linalg, "matrix_power", counted)
    turns = [from_twist(CameraMotion(turn=turn).twist(FRAME_S)) for turn in (5, -3)]
    route, counts = path((0, "forward")), []
    for frame in range(1, 301, 3):
        route = route.then(frame, [PathEntry(frame, turns[frame % 2])])
        made.clear()
        placed = route.placed([0, 1, *range(max(frame - 6, 2), frame + 3)], frame)
        counts.append(made["motions"])
    assert max(counts[50:]) == max(counts[5:10]) < 20
    fresh = CameraPath(route.starts, route.steps, route.growths, full_step=route.full_step)
    assert torch.equal(placed, fresh.placed([0, 1, *range(frame - 6, frame + 3)], frame))


def test_a_later_change_leaves_every_earlier_bit() -> None:
    route = path((0, "forward"), (3, "pan left"), (8, "roll right"))
    turn = from_twist(CameraMotion(turn=5).twist(FRAME_S))
    changed = route.then(6, [PathEntry(6, turn, growth=0.1)])
    for frame in range(6):
        assert torch.equal(step(route, frame), step(changed, frame))
    assert route.digest_of(range(6)) == changed.digest_of(range(6))
    assert route.digest_of(range(5, 7)) != changed.digest_of(range(5, 7))
    assert torch.equal(step(changed, 50), turn)


def test_a_digest_tells_paths_apart_by_their_times_and_their_first_motion() -> None:
    lines = {"early": 3, "late": 9}
    by_time = {name: path((0, "forward"), (at, "pan left")) for name, at in lines.items()}
    eye, turn = torch.eye(4, dtype=torch.float64), from_twist(CameraMotion(turn=5).twist(FRAME_S))
    first = [CameraPath((0,), step[None], (0.0,)) for step in (eye, turn, inverse(turn))]
    zooms = [CameraPath((0,), eye[None], (growth,)) for growth in (0.1, 0.2)]
    assert len({route.digest for route in (*by_time.values(), *first, *zooms)}) == 7
    unmoved = [CameraPath((0, 1), torch.stack([step, turn]), (0.0, 0.0)) for step in (eye, turn)]
    assert unmoved[0].digest == unmoved[1].digest  # frame 0 does not move


def test_a_change_of_speed_is_spread_evenly_or_smoothly() -> None:
    def turns(*, smooth: bool) -> list[float]:
        motions = [TimedMotion(0, CameraMotion()), TimedMotion(4, CameraMotion(turn=40), 4, smooth)]
        route = path_of_motions(motions, FRAME_S)
        return [math.degrees(math.asin(float(step(route, f)[0, 2]))) for f in range(3, 10)]

    assert turns(smooth=False) == pytest.approx([0, 1.25, 3.75, 6.25, 8.75, 10, 10])
    smooth = turns(smooth=True)
    assert smooth == pytest.approx([0, *(10 * s * s * (3 - 2 * s) for s in
                                         (0.125, 0.375, 0.625, 0.875)), 10, 10])  # fmt: skip


def test_a_change_ends_where_the_next_begins() -> None:
    motions = [TimedMotion(0, CameraMotion(forward=1)), TimedMotion(2, CameraMotion(forward=3), 8),
               TimedMotion(4, CameraMotion(forward=-1), 2)]  # fmt: skip
    route = path_of_motions(motions, 1.0)
    speeds = [float(step(route, f)[2, 3]) for f in range(1, 8)]
    at_3 = 1 + 2 * 1.5 / 8
    expected = [1, 1.125, at_3, 0.75 * at_3 - 0.25, 0.25 * at_3 - 0.75, -1, -1]
    assert speeds == pytest.approx(expected)


def test_zoom_grows_the_lens_and_ends_at_a_limit() -> None:
    route = path((0, "zoom in 50"), (5, "still"))
    assert route.lens_at(0) == Lens()
    assert route.lens_at(4).focal_x == pytest.approx(1.5 * Lens().focal_x)
    assert route.lens_at(400) == route.lens_at(4)
    out = path((0, "zoom out 50")).lens_at(10**6)
    assert out.focal_y == pytest.approx(Lens().focal_y / MAX_ZOOM)


def test_zooming_out_undoes_as_much_zooming_in() -> None:
    route = path((0, "zoom in 50"), (5, "zoom out 50"), (9, "still"))
    assert route.lens_at(6).focal_y == pytest.approx(Lens().focal_y * 1.5**0.5)
    assert route.lens_at(9).focal_x == pytest.approx(Lens().focal_x)


def test_steps_of_poses_ignore_where_the_world_has_its_origin() -> None:
    poses, elsewhere = random_poses(5), random_poses(1, seed=40)
    one, two = path_of_poses(poses), path_of_poses(elsewhere @ poses)
    for frame in range(8):
        assert torch.allclose(step(one, frame), step(two, frame), atol=1e-12)
        last = poses[min(frame, 4)]
        assert torch.allclose(pose(one, frame), inverse(poses[0]) @ last, atol=1e-12)


def test_moves_count_in_parts_of_a_full_step() -> None:
    poses = random_poses(6)
    lengths = (poses[1:, :3, 3] - poses[:-1, :3, 3]).norm(dim=-1)
    norms = path_of_poses(poses).relative(range(6))[:, :3, 3].norm(dim=-1)
    assert norms[0] == 0
    torch.testing.assert_close(norms[1:], lengths / lengths.max())
    fast = path((0, "forward 5")).relative(range(3))[:, 2, 3]
    assert fast.tolist() == pytest.approx([0, 1, 1])
    assert path((0, "forward .5")).relative([1])[0, 2, 3] == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [(lambda p: p[1, 0].fill_(float("nan")), "pose 1 holds NaN"),
     (lambda p: p[2, :3, :3].mul_(1.1), "pose 2 is no rotation"),
     (lambda p: p[0, 0].neg_(), "pose 0 is no rotation"),
     (lambda p: p[3, 3].add_(1), "last row of pose 3")],
)  # fmt: skip
def test_poses_that_are_no_cameras_are_refused(damage: object, sentence: str) -> None:
    poses = random_poses(4)
    damage(poses)
    with pytest.raises(BadInput, match=sentence):
        path_of_poses(poses)


@pytest.mark.parametrize("sign", [", ", " and ", "+", "，", "、"])
def test_moves_are_added_up(sign: str) -> None:
    turning = read_motion("forward 0.5", 1) + read_motion("pan right 20", 1)
    assert read_motion(f"forward 0.5{sign}pan right 20", 1) == turning


@pytest.mark.parametrize(
    "text", ["fly away", "pan", "forward fast", "", "forward,", "pan left 400"]
)
def test_an_unknown_move_names_its_line(text: str) -> None:
    with pytest.raises(BadInput, match="Line 7"):
        read_motion(text, 7)
