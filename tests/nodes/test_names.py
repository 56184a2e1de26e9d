"""Names that no file can have, and texts too long: a sentence, before anything is made."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from longtake.errors import BadInput
from longtake.tests.support.node_bench import Bench

PICTURES = torch.zeros(2, 16, 16, 3)
A_BOOK = "a word " * 10_000


@pytest.mark.parametrize("name", ["a" * 181, "\N{GRINNING FACE}" * 46, "a" * 181 + "/clip"])
@pytest.mark.parametrize("format", ["mp4 (h264)", "gif", "png frames"])
def test_a_name_that_leaves_no_room_for_endings_is_refused_before_a_frame_is_made(
    bench: Bench, name: str, format: str, tmp_path: Path
) -> None:
    """The sheet has a longer name than its video, and was refused when all was made."""
    frames = bench.frames()
    with pytest.raises(BadInput, match="more than 180 bytes, and numbers and endings follow it"):
        bench.run("LongtakeSaveVideo", frames=frames, filename_prefix=name, format=format)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


@pytest.mark.parametrize("format", ["mp4 (h264)", "gif", "png frames"])
def test_the_longest_name_makes_every_file(bench: Bench, format: str, tmp_path: Path) -> None:
    name = "a" * 180
    bench.run("LongtakeSaveVideo", frames=PICTURES, filename_prefix=name, format=format)
    assert len(list(tmp_path.rglob(f"{name}_00001_*"))) == 3, "video, sheet and report"


@pytest.mark.parametrize("wrong", ["\n", "\r", "\t", "\x1b", "\x7f", "\x85"])
@pytest.mark.parametrize("prefix", ["two{}lines", "a{}folder/clip", "clip{}"])
def test_a_name_with_a_control_character_is_refused(
    bench: Bench, prefix: str, wrong: str, tmp_path: Path
) -> None:
    """A video of such a name was begun, and not found again after a cancel."""
    prefix = prefix.format(wrong)
    refusal = bench.refusal("LongtakeSaveVideo", frames=PICTURES, filename_prefix=prefix)
    assert f"has the control character {wrong!r}; use a name of one line" in refusal
    assert "\n" not in refusal and not [path for path in tmp_path.rglob("*") if path.is_file()]


@pytest.mark.parametrize("prefix", ["notes.txt/clip", "notes.txt/deep/er/clip", "%width%.txt/clip"])
def test_a_file_in_the_place_of_a_folder_is_named_and_stays(
    bench: Bench, prefix: str, tmp_path: Path
) -> None:
    """Also where only the host's tokens make the file's name."""
    for name in ("notes.txt", "16.txt"):
        (tmp_path / name).write_text("mine")
    refusal = bench.refusal("LongtakeSaveVideo", frames=PICTURES, filename_prefix=prefix)
    file = tmp_path / ("16.txt" if "%" in prefix else "notes.txt")
    assert f"needs the folder {file}, where a file stands; move that file" in refusal
    assert file.read_text() == "mine"


@pytest.mark.usefixtures("bench")
def test_a_file_in_the_place_of_a_folder_is_told_of_as_the_workflow_is_queued(
    tmp_path: Path,
) -> None:
    from longtake.nodes.outputs.save_video import SaveVideo

    (tmp_path / "notes.txt").write_text("mine")
    assert "where a file stands" in str(SaveVideo.validate_inputs(filename_prefix="notes.txt/clip"))
    assert SaveVideo.validate_inputs(filename_prefix="notes.txt") is True  # notes.txt_00001_.mp4


@pytest.mark.parametrize("name", ["a" * 300, "zero\0byte"])
def test_what_cannot_be_a_file_s_name_is_one_sentence(
    bench: Bench, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "input").mkdir()  # a system looks at no name in a folder that is not there
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BadInput, match=r"cannot be a file's name; choose another file\.$"):
        bench.run("LongtakeCameraPath", pose_file=name)


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("poses", "input/poses is a folder; choose another file."),
        (".", "input is a folder; choose another file."),
        ("poses.txt", "input/poses.txt does not exist; choose another file."),
        ("../poses", "'../poses' is not in the output or input folder; choose another file."),
    ],
)
def test_a_file_that_cannot_be_read_is_told_as_what_it_is(
    bench: Bench, name: str, sentence: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The folder's mark `[input]`, which the node adds, is none of a user's business."""
    (tmp_path / "input" / "poses").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BadInput) as refusal:
        bench.run("LongtakeCameraPath", pose_file=name)
    assert str(refusal.value).replace("\\", "/").endswith(sentence)
    assert "[input]" not in str(refusal.value)


@pytest.mark.parametrize(
    ("node", "inputs"),
    [
        ("LongtakeCameraPath", {"moves": f"0: {A_BOOK}"}),
        ("LongtakePromptTimeline", {"guidance": A_BOOK}),
        ("LongtakeSampler", {"length_unit": A_BOOK}),
        ("LongtakeSampler", {"seed": A_BOOK}),
        ("LongtakeSaveVideo", {"frames": PICTURES, "filename_prefix": f"../{A_BOOK}"}),
        ("LongtakeHistoryGuidance", {"per_step": A_BOOK}),
    ],
)
def test_a_sentence_repeats_no_book(bench: Bench, node: str, inputs: dict[str, Any]) -> None:
    if node == "LongtakePromptTimeline":
        inputs = {"clip": bench.run("LongtakeLoadDemoModel")[1], **inputs}
    with pytest.raises(BadInput) as refusal:
        bench.run(node, **inputs)
    assert len(str(refusal.value)) < 400
