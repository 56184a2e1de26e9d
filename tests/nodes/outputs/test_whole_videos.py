"""A video that is whole stays, where its run was stopped before another one's end."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from longtake.stream.video import whole_notes as notes
from longtake.tests.support.node_bench import Bench
from longtake.tests.support.nodes.steps import ask_at

FORMATS = ["mp4 (h264)", "mkv (lossless)", "webp (animated)", "png frames"]


@pytest.fixture(autouse=True)
def _as_the_command_line() -> Iterator[None]:
    with notes.whole_notes():
        yield


def save(bench: Bench, frames: Any = None, **inputs: Any) -> tuple[Path, dict[str, Any]]:
    """Write the video of a shot; return it, and what the node shows."""
    shown = bench.shown("LongtakeSaveVideo", frames=frames or bench.frames(), **inputs)
    [entry] = shown.get("images") or shown["longtake_frames"]
    folder = bench.state.folders["output"] / entry["subfolder"]
    return folder / entry.get("filename", ""), shown


def hidden(video: Path) -> list[Path]:
    return list(video.parent.glob(".*.whole"))


@pytest.mark.parametrize("inputs", [*({"format": name} for name in FORMATS), {"fps": 8.0}])
def test_the_run_after_a_stop_leaves_a_whole_video_alone(
    bench: Bench, inputs: dict[str, Any]
) -> None:
    """A stop is a run that removes no notes. Nothing is read, decoded or written again."""
    video, shown = save(bench, **inputs)
    before, told = video.stat(), len(bench.events)
    again, shown_again = save(bench, **inputs)
    assert again == video and video.stat() == before and len(bench.events) == told
    assert {**shown_again, "animated": ...} == {**shown, "animated": ...}


def test_a_run_that_ends_well_lets_the_next_one_save_a_further_video(bench: Bench) -> None:
    video, _ = save(bench)
    notes.remove_notes([video])
    assert not hidden(video) and save(bench)[0].name == "clip_00002_.mp4"


def test_comfyui_which_tells_nobody_when_a_run_ends_has_no_notes(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, _ = save(bench)
    monkeypatch.delenv(notes.VARIABLE)
    names = [save(bench)[0].name for _ in range(2)]
    assert names == ["clip_00002_.mp4", "clip_00003_.mp4"]
    monkeypatch.setenv(notes.VARIABLE, "1")
    assert save(bench)[0] == whole


def replace_video(video: Path) -> None:
    video.write_bytes(b"another")


def remove_video(video: Path) -> None:
    video.unlink()


def remove_sheet(video: Path) -> None:
    video.with_name("clip_00001_sheet.png").unlink()


def damage_note(video: Path) -> None:
    [note] = hidden(video)
    note.write_text(note.read_text()[:-9])


def empty_note(video: Path) -> None:
    hidden(video)[0].write_text('{"longtake": 1}')


def rename_list_of_note(video: Path) -> None:
    [note] = hidden(video)
    note.write_text(note.read_text().replace("longtake_files", "files_longtake"))


@pytest.mark.parametrize(
    "act",
    [replace_video, remove_video, remove_sheet, damage_note, empty_note, rename_list_of_note],
)
def test_a_video_that_somebody_changed_is_made_again(
    bench: Bench, act: Callable[[Path], None]
) -> None:
    video, shown = save(bench)
    size = video.stat().st_size
    act(video)
    again, shown_again = save(bench)
    assert shown_again["longtake_report"] != shown["longtake_report"]
    assert again.stat().st_size == size


@pytest.mark.parametrize("inputs", [{"crf": 30}, {"sheet_and_report": False}, {"fps": 24.0}])
def test_another_file_of_the_shot_is_made(bench: Bench, inputs: dict[str, Any]) -> None:
    video, _ = save(bench)
    assert save(bench, **inputs)[0] != video


def test_another_shot_or_workflow_is_made(bench: Bench) -> None:
    video, _ = save(bench)
    assert save(bench, bench.frames(length=45.0))[0] != video
    bench.prompt = {"8": {"class_type": "LongtakeSaveVideo", "inputs": {}}}
    assert save(bench)[0] != video


def stop(controls: Any) -> None:
    controls.stop()


def edit(controls: Any) -> None:
    controls.set_prompt("ball")


@pytest.mark.parametrize("act", [stop, edit])
def test_a_video_that_somebody_steered_is_not_the_workflows(
    bench: Bench, act: Callable[[Any], None]
) -> None:
    frames = bench.frames(length=69.0)
    ask_at(bench, 0, lambda: act(frames.controls))
    video, _ = save(bench, frames)
    assert save(bench, bench.frames(length=69.0))[0] != video


def test_a_disk_without_room_for_the_note_costs_no_video(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(path: Path) -> Any:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(notes, "replacing", refuse)
    video, _ = save(bench)
    assert video.stat().st_size and not hidden(video)
    [warning] = [text for text in caplog.messages if ".whole cannot be written" in text]
    assert "(No space left on device): if this run is stopped, the next one makes clip" in warning
