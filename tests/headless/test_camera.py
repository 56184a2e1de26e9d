"""`longtake run --camera FILE`: a drive or poses in place of the workflow's camera."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from longtake.errors import BadInput, StorageError
from longtake.headless import cli
from longtake.headless.workflow.camera import with_camera
from longtake.headless.workflow.graph import Link, Workflow, parse
from longtake.model import preset
from longtake.nodes.steering.camera_lines import with_drive
from longtake.tests.support.model.camera_demo import demo_without_camera

ROOT = Path(__file__).resolve().parents[2]
DRIVE = "2.06: forward 0.5\n4.31: still"


def workflow(camera: dict[str, Any] | None, link: object = ("9", 0)) -> Workflow:
    """A sampler with a Camera Path of these inputs, or without one."""
    content: dict[str, Any] = {"4": {"class_type": "LongtakeSampler", "inputs": {"seed": 1}}}
    if camera is not None:
        content["9"] = {"class_type": "LongtakeCameraPath", "inputs": camera}
        content["4"]["inputs"]["camera"] = list(link)  # type: ignore[call-overload]
    return parse(content, "shot.json")


def written(folder: Path, text: str, name: str = "drive.txt") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def test_a_drive_replaces_the_lines_from_its_first_time_on(tmp_path: Path) -> None:
    before = {"moves": "0: forward\n1:30: still\n1 (smooth 1): forward,\nturn right 20"}
    steered = with_camera(workflow(before), written(tmp_path, DRIVE + "\n"), tmp_path)
    camera = steered.nodes["9"].inputs
    assert camera["moves"] == f"0: forward\n1 (smooth 1): forward,\nturn right 20\n{DRIVE}"
    assert camera["pose_file"] == ""


def test_a_drive_takes_the_place_of_poses_only_from_their_start_on(tmp_path: Path) -> None:
    """A Camera Path takes poses or lines, so lines cannot go on from poses."""
    before = {"moves": "0: forward", "pose_file": "old.json"}
    with pytest.raises(BadInput, match=r"lines that begin at 2\.06 s cannot go on from poses"):
        with_camera(workflow(before), written(tmp_path, DRIVE), tmp_path)
    whole = with_camera(workflow(before), written(tmp_path, f"0: still\n{DRIVE}"), tmp_path)
    camera = whole.nodes["9"].inputs
    assert (camera["moves"], camera["pose_file"]) == (f"0: still\n{DRIVE}", "")


def test_an_editors_mark_at_the_front_of_a_drive_is_no_move(tmp_path: Path) -> None:
    drive = tmp_path / "drive.txt"
    drive.write_text("0: pan left", encoding="utf-8-sig")
    assert with_camera(workflow(None), drive, tmp_path).nodes["camera of 4"].inputs["moves"] == (
        "0: pan left"
    )


@pytest.mark.parametrize(("text", "kept"), [("pan left", "pan left\n"), ("", ""), ("3: up", "")])
def test_lines_before_a_drive_stay(text: str, kept: str) -> None:
    assert with_drive(text, DRIVE) == f"{kept}{DRIVE}"


def test_a_sampler_without_a_camera_gets_one(tmp_path: Path) -> None:
    steered = with_camera(workflow(None), written(tmp_path, DRIVE), tmp_path)
    link = steered.nodes["4"].inputs["camera"]
    assert isinstance(link, Link)
    assert steered.nodes[link.node_id].class_type == "LongtakeCameraPath"
    assert steered.nodes[link.node_id].inputs["moves"] == DRIVE


def test_poses_are_copied_to_where_the_node_reads_them(tmp_path: Path) -> None:
    poses = tmp_path / "mine.npy"
    np.save(poses, np.tile(np.eye(4), (5, 1, 1)))
    steered = with_camera(workflow({"moves": "up"}), poses, tmp_path / "out")
    assert steered.nodes["9"].inputs["pose_file"] == "longtake/camera.npy [output]"
    copied = tmp_path / "out" / "longtake" / "camera.npy"
    assert np.array_equal(np.load(copied), np.load(poses))
    keys = with_camera(workflow(None), written(tmp_path, "w*10,j*5"), tmp_path / "out")
    assert keys.nodes["camera of 4"].inputs["pose_file"] == "longtake/camera.txt [output]"


def test_poses_that_a_full_disk_refuses_leave_those_of_an_earlier_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    poses = tmp_path / "mine.npy"
    np.save(poses, np.tile(np.eye(4), (5, 1, 1)))
    with_camera(workflow({"moves": "up"}), poses, tmp_path)
    copied = tmp_path / "longtake" / "camera.npy"
    before = copied.read_bytes()

    def refuse(target: Path, content: bytes) -> None:
        with target.open("wb") as file:
            file.write(content[:9])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", refuse)
    with pytest.raises(StorageError, match=r"the poses cannot be copied .* \(No space left"):
        with_camera(workflow({"moves": "up"}), poses, tmp_path)
    assert copied.read_bytes() == before and len([*copied.parent.iterdir()]) == 1


@pytest.mark.parametrize(
    ("name", "text", "sentence"),
    [("gone.txt", None, "cannot be read"), ("gone.json", None, "is not there"),
     ("a.txt", "0: fly", "Line 1 has the move 'fly'"), ("a.txt", "9:99:1:1: up", "not a time"),
     ("a.txt", "", "holds float64 [0, 4, 4]"), ("a.json", "{", "cannot be read"),
     ("a.json", "[[[1, 0], [0, 1]]]", "holds float64"), ("a.mp4", "x", "its name ends in .mp4")],
)  # fmt: skip
def test_a_bad_file_is_one_sentence(
    tmp_path: Path, name: str, text: str | None, sentence: str
) -> None:
    file = tmp_path / name if text is None else written(tmp_path, text, name)
    with pytest.raises(BadInput, match=r"^--camera: ") as error:
        with_camera(workflow({"moves": ""}), file, tmp_path)
    assert sentence in str(error.value) and "\n" not in str(error.value)


def test_a_workflow_that_cannot_be_steered_is_one_sentence(tmp_path: Path) -> None:
    drive = written(tmp_path, DRIVE)
    with pytest.raises(BadInput, match="has no LongtakeSampler"):
        with_camera(parse({"1": {"class_type": "Note", "inputs": {}}}, "a.json"), drive, tmp_path)
    with pytest.raises(BadInput, match="does not come from a LongtakeCameraPath"):
        with_camera(workflow({"moves": ""}, ("4", 0)), drive, tmp_path)
    with pytest.raises(BadInput, match="another node writes `moves`"):
        with_camera(workflow({"moves": ["4", 0]}), drive, tmp_path)


def test_the_command_refuses_a_model_without_a_camera(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such a model takes no path; the file has reached its sampler."""
    monkeypatch.delenv("COMFYUI_PATH", raising=False)
    monkeypatch.setattr(preset, "DEMO_FOLDER", demo_without_camera(tmp_path / "demo"))
    example = ROOT / "example_workflows" / "api" / "1_text_to_stream.json"
    assert "LongtakeSampler" in json.dumps(json.loads(example.read_text()))
    drive = written(tmp_path, DRIVE)
    arguments = ["run", str(example), "--camera", str(drive), "--out", str(tmp_path / "out")]
    result = CliRunner().invoke(cli.main, arguments)
    assert result.exit_code == 1
    assert "takes no camera path" in " ".join(result.output.split())
