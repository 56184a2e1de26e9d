"""Camera Path: what users type or give as a file, and the shot that it steers."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from longtake.errors import BadInput
from longtake.model.config import FRAMES_PER_LATENT, Camera
from longtake.samplers.camera.path import path_of_poses
from longtake.samplers.camera.rigid import from_twist
from longtake.tests.support.lasting_host import lasting_host
from longtake.tests.support.node_bench import CONFIG, Bench, node_bench, tiny_demo
from longtake.tests.support.samplers.camera_poses import step
from longtake.tests.support.tiny_model import randn

FPS, FRAME_S = 16.0, 0.25


@pytest.fixture
def _host(tmp_path: Path) -> Iterator[None]:
    with lasting_host(tmp_path, lambda event: None):
        yield


@pytest.fixture
def steered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    """A host whose demo model takes a camera."""
    demo = tmp_path / "demo"
    demo.mkdir()
    tiny_demo(demo, replace(CONFIG, camera="action"))
    with node_bench(tmp_path / "out", demo, monkeypatch) as bench:
        yield bench


def lines(text: str) -> Any:
    from longtake.nodes.steering.camera_lines import path_of_lines, read_moves

    return path_of_lines(read_moves(text), FPS, FRAME_S)


def read(path: Path) -> Any:
    from longtake.nodes.steering.camera_poses import read_poses

    return read_poses(path)


def random_poses(count: int) -> torch.Tensor:
    return torch.stack([from_twist(randn(6, seed=i).double()) for i in range(count)])


@pytest.mark.usefixtures("_host")
def test_a_move_starts_with_the_nearest_latent_frame_and_the_last_one_goes_on() -> None:
    path = lines("2: forward\n0: pan left\n4 (over 1): still")
    turns = path.turns_of(path.steps_of(range(30))).tolist()
    assert turns[:9] == pytest.approx([0, *[-15] * 8])
    speeds = [float(step(path, frame)[2, 3]) / FRAME_S for frame in range(8, 24)]
    assert speeds == pytest.approx([0, *[1] * 8, 0.875, 0.625, 0.375, 0.125, 0, 0, 0])


@pytest.mark.usefixtures("_host")
@pytest.mark.parametrize(
    ("text", "complaint"),
    [("0: flip", "Line 1 has the move 'flip'"), ("0: up\n-3: down", "Line 2 starts with '-3'"),
     ("0 (slow): up", r"Line 1 has \(slow\)"), ("0 (over 601): up", "at most 600"),
     ("0: up\n2,5: down", "Line 2 starts with '2,5'"), ("1:30 up", "no colon after it"),
     ("0: zoom in 101", "at most 100 per cent"), ("90000: up", "at most 86400 s")],
)  # fmt: skip
def test_a_bad_line_is_one_sentence(text: str, complaint: str) -> None:
    with pytest.raises(BadInput, match=complaint):
        lines(text)


@pytest.mark.usefixtures("_host")
@pytest.mark.parametrize("form", ["json", "json of names", "npy", "npz", "txt", "3 rows"])
def test_every_form_of_a_file_gives_the_same_poses(form: str, tmp_path: Path) -> None:
    poses = random_poses(5)
    suffix = form if form in ("npy", "npz", "txt") else "json"
    path = tmp_path / f"poses.{suffix}"
    if form == "npy":
        np.save(path, poses.numpy())
    elif form == "npz":
        np.savez(path, poses=poses.numpy(), intrinsics=np.ones(4))
    elif form == "txt":
        np.savetxt(path, poses.flatten(1).numpy(), fmt="%.17g")
    else:
        table = (poses[:, :3] if form == "3 rows" else poses).tolist()
        path.write_text(json.dumps({"c2w": table} if form == "json of names" else table))
    content, per_latent = read(path)
    assert torch.equal(content, poses) and not per_latent


@pytest.mark.parametrize(
    ("rows", "numbers_per_line"), [(3, 4), (3, 12), (3, 1000), (4, 4), (4, 16), (4, 1000)]
)
@pytest.mark.parametrize("count", [1, 3, 4, 8, 12])
def test_a_text_of_matrices_is_read_whatever_their_number(
    count: int, numbers_per_line: int, rows: int, tmp_path: Path
) -> None:
    """48 numbers are four matrices of three rows, or three of four."""
    poses = random_poses(count)
    numbers = [f"{number:.17g}" for number in poses[:, :rows].flatten().tolist()]
    lines = [numbers[i : i + numbers_per_line] for i in range(0, len(numbers), numbers_per_line)]
    path = tmp_path / "poses.txt"
    content = "\n".join(["#camera to world", *(" ".join(line) for line in lines)])
    path.write_text(content, encoding="utf-8-sig")
    assert torch.equal(read(path)[0], poses)


@pytest.mark.usefixtures("_host")
def test_a_string_of_keys_is_minwms(tmp_path: Path) -> None:
    """Against the steps and angles of minWM df522a2, one per latent frame."""
    path = tmp_path / "keys.txt"
    path.write_text("w*2, l, dn*1\n")
    poses, per_latent = read(path)
    assert per_latent and len(poses) == 5
    sine, cosine = np.sin(np.deg2rad(3)), np.cos(np.deg2rad(3))
    expected = np.eye(4)
    expected[:3, :3] = [[cosine, 0, sine], [0, 1, 0], [-sine, 0, cosine]]
    expected[:3, 3] = [0, 0.08, 0.16]
    assert torch.allclose(poses[4], torch.from_numpy(expected), atol=1e-12)


@pytest.mark.usefixtures("_host")
@pytest.mark.parametrize(
    ("name", "content", "complaint"),
    [("a.json", "[1, 2]", "holds float64"), ("a.json", "{", "cannot be read"),
     ("a.json", '{"one": 1, "two": 2}', "not `poses`"), ("a.npy", "x", "cannot be read"),
     ("a.json", '{"frames": [{"transform_matrix": []}]}', "cannot be read as camera poses"),
     ("a.csv", "1", "ends in .csv"), ("a.txt", "1 2 3", "cannot be read"),
     ("a.txt", "w*3,fly", "'fly' cannot be read"), ("a.json", "[]", "holds float64"),
     ("a.json", "{}", "it names nothing, not `poses`"),
     ("a.json", f"[[[1{'0' * 400}]]]", "int too large")],
)  # fmt: skip
def test_a_bad_file_is_one_sentence(
    name: str, content: str, complaint: str, tmp_path: Path
) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(BadInput, match=complaint):
        read(tmp_path / name)


def archive(*, empty: bool = False) -> bytes:
    """A compressed .npz of poses, or of nothing."""
    file = io.BytesIO()
    np.savez_compressed(file, **({} if empty else {"poses": np.ones((9, 4, 4))}))
    return file.getvalue()


def damaged_lzma() -> bytes:
    """A .npz whose poses another packer than NumPy has compressed, with damage in their middle."""
    file, packed = io.BytesIO(), io.BytesIO()
    np.save(file, np.arange(800.0).reshape(50, 4, 4))
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_LZMA) as target:
        target.writestr("poses.npy", file.getvalue())
    content = packed.getvalue()
    return content[:90] + b"\xff" * 30 + content[120:]


def flagged(at: int, value: int) -> bytes:
    """That file with another byte in its directory, `at` bytes from the entry's start."""
    content = bytearray(archive())
    content[content.find(b"PK\x01\x02") + at] = value
    return bytes(content)


def claim(frames: int) -> bytes:
    """A short .npy that claims this many poses."""
    file = io.BytesIO()
    header = {"descr": "<f8", "fortran_order": False, "shape": (frames, 4, 4)}
    np.lib.format.write_array_header_1_0(file, header)
    return file.getvalue()


@pytest.mark.usefixtures("_host")
@pytest.mark.parametrize(
    ("name", "content", "complaint"),
    [("a.npz", archive(empty=True), "it names nothing"),
     ("a.npz", archive().replace(archive()[60:90], b"\xff" * 30), "while decompressing"),
     ("a.npz", damaged_lzma(), "cannot be read as camera poses"),
     ("a.npy", claim(9).replace(b"}", b" "), "cannot be read as camera poses"),
     ("a.npz", flagged(8, 1), "encrypted"), ("a.npz", flagged(10, 97), "compression"),
     ("a.npy", claim(10**12), "cannot be read as camera poses"),
     ("a.npy", claim(10**30), "cannot be read as camera poses")],
    ids=["empty", "damaged", "damaged lzma", "open header", "encrypted", "other compression",
         "huge", "beyond numbers"],
)  # fmt: skip
def test_an_array_file_that_is_none_is_one_sentence(
    name: str, content: bytes, complaint: str, tmp_path: Path
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(BadInput, match=complaint):
        read(tmp_path / name)


def test_a_path_steers_the_shot_and_is_part_of_its_address(steered: Bench) -> None:
    [left] = steered.run("LongtakeCameraPath", moves="0: pan left")
    [turned] = steered.run("LongtakeCameraPath", moves="0: pan left\n1: pan right")
    shots = [steered.rollout(camera=camera)[0] for camera in (left, turned, None)]
    one, two, plain = (torch.cat([chunk.latents for chunk in shot.chunks]) for shot in shots)
    assert torch.equal(one[:3], two[:3]) and not torch.equal(one[3:], two[3:])
    assert not torch.equal(one[:3], plain[:3])
    keys = [shot.spec.key(0) for shot in shots]
    assert keys[0] == keys[1] != keys[2]


@pytest.mark.parametrize(
    ("moves", "at"),
    [
        ("0: forward", "0.0"),
        ("0: still\n0.5: pan left\n1: zoom in\n1.5: up", "1.0"),
        ("0: still\n1: forward, turn right 20\n2: left", None),
        ("0: pan left\n9: forward", None),  # after the shot's end
    ],
)
def test_moves_that_a_panning_camera_does_not_know_are_named(
    steered: Bench, moves: str, at: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    [camera] = steered.run("LongtakeCameraPath", moves=moves)
    steered.rollout(camera=camera, plan_only=True)
    assert ("This model's camera only pans" in caplog.text) is (at is not None)
    assert at is None or f"first at {at} s" in caplog.text


@pytest.mark.parametrize(("camera", "count"), [("action", 1), ("columns", 1), ("plucker", 0)])
def test_only_a_camera_that_pans_alone_ignores_other_moves(camera: Camera, count: int) -> None:
    from longtake.nodes.length import Length
    from longtake.nodes.steering.camera_spec import idle_moves

    path, config = lines("0: forward"), replace(CONFIG, camera=camera)
    assert len(idle_moves(path, config, Length(9, 3, 0, FPS))) == count


def test_a_panning_camera_asks_for_other_poses_where_a_file_has_them(
    steered: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    from longtake.nodes.steering.camera_spec import CameraSpec

    ahead = torch.eye(4, dtype=torch.float64).repeat(9, 1, 1)
    ahead[:, 2, 3] = torch.arange(9)
    spec = CameraSpec((), ahead, per_latent=True, source="p.json")
    steered.rollout(camera=spec, plan_only=True)
    assert "turn the poses of p.json left or right there." in caplog.text
    assert "write pan" not in caplog.text


def test_poses_of_a_file_count_every_fourth_frame_and_end_with_a_warning(
    steered: Bench, tmp_path: Path
) -> None:
    from longtake.nodes.length import Length
    from longtake.nodes.steering.camera_spec import CameraSpec

    poses = random_poses(9)
    spec = CameraSpec((), poses, per_latent=False, source="p.json")
    path = spec.resolve(FPS)
    expected = path_of_poses(poses[::FRAMES_PER_LATENT], FRAME_S)
    assert path == replace(expected) and path.digest == expected.digest
    rollout, _ = steered.rollout(camera=spec, plan_only=True)
    assert rollout.spec.settings.camera == path
    short, long = (Length(frames, 3, 0, FPS) for frames in (9, None))
    for length in (short, long):
        [warning] = spec.shortfall(path, length)
        assert "p.json ends after 3 latent frames (0.8 s)" in warning
    assert spec.shortfall(path, Length(3, 3, 0, FPS)) == []


def test_a_file_of_the_input_folder_is_read_again_when_it_changes(
    steered: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    import folder_paths

    from longtake.nodes.steering.camera_path import CameraPathNode

    path = Path(folder_paths.get_input_directory()) / "drive.txt"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("w*3")
    [spec] = steered.run("LongtakeCameraPath", moves="", pose_file="drive.txt")
    assert spec.per_latent and len(spec.poses) == 4
    before = CameraPathNode.fingerprint_inputs(moves="", pose_file="drive.txt")
    path.write_text("w*3,a*5")
    assert before != CameraPathNode.fingerprint_inputs(moves="", pose_file="drive.txt")
    with pytest.raises(BadInput, match="not in the output or input folder"):
        steered.run("LongtakeCameraPath", moves="", pose_file="../../etc/passwd")


@pytest.mark.usefixtures("bench")
def test_a_file_that_is_not_there_is_told_once_and_before_the_run() -> None:
    """The host logs what a fingerprint raises, and the node's own error follows."""
    from longtake.nodes.steering.camera_path import CameraPathNode

    assert CameraPathNode.fingerprint_inputs(moves="", pose_file="nowhere.json") == ()
    sentence = CameraPathNode.validate_inputs(pose_file="nowhere.json")
    assert str(sentence).endswith("nowhere.json does not exist; choose another file.")
    assert CameraPathNode.validate_inputs(pose_file=" ") is True
    assert CameraPathNode.validate_inputs() is True


def test_a_model_without_a_camera_refuses_a_path(bench: Bench) -> None:
    [camera] = bench.run("LongtakeCameraPath", moves="0: up")
    with pytest.raises(BadInput, match="takes no camera path"):
        bench.rollout(camera=camera)


def test_words_move_the_camera_from_clip_text_encode_too(steered: Bench) -> None:
    """The host's CONDITIONING has no place for a prompt's text but the options."""
    text = "a red ball,\nthe camera pans left"
    _, clip, _ = steered.run("LongtakeLoadDemoModel")
    encoded = clip.encode_from_tokens_scheduled(clip.tokenize(text))
    [timeline] = steered.run("LongtakePromptTimeline", clip=clip, text=text.replace("\n", " "))
    [still] = steered.run("LongtakePromptTimeline", clip=clip, text="a red ball")
    made = [latents_of(steered, prompts) for prompts in (encoded, timeline, still)]
    assert torch.equal(made[0], made[1]) and not torch.equal(made[0], made[2])


def latents_of(bench: Bench, prompts: Any) -> torch.Tensor:
    model, *_ = bench.run("LongtakeLoadDemoModel", quality="full")
    size = {"width": 32, "height": 32, "length": 33.0, "length_unit": "frames"}
    [rollout] = bench.run("LongtakeSampler", model=model, prompts=prompts, **size)
    return bench.collect(rollout, "latent")["samples"]
