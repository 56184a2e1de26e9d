"""Two processes save into one folder: each gets a number of its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import av
import pytest

from longtake.errors import BadInput, StorageError
from longtake.headless.events import FileSaved
from longtake.stream.video.pieces import begin_log
from longtake.tests.support.node_bench import Bench

FORMATS = ("mp4 (h264)", "gif", "png frames", "mkv (lossless)")


@pytest.mark.parametrize("suffix", [".mp4", "frames"])
def test_a_number_that_another_process_has_taken_meanwhile_is_left(
    bench: Bench, tmp_path: Path, suffix: str
) -> None:
    from longtake.nodes import host

    name, is_folder = host.output_files("clip", suffix), suffix == "frames"
    late = [name()]  # the other process sees the same number, and takes it first
    first = host.claim_file(name, is_folder=is_folder)
    second = host.claim_file(lambda: late.pop() if late else name(), is_folder=is_folder)
    assert [first.name, second.name] == [f"clip_00001_{suffix}", f"clip_00002_{suffix}"]
    for file in (first, second):
        assert file.path.exists()
        host.remove_empty(file)
        assert not file.path.exists()


@pytest.mark.parametrize("format", FORMATS)
def test_a_run_that_is_stopped_before_its_first_frame_leaves_no_file(
    bench: Bench, tmp_path: Path, format: str
) -> None:
    """Nor is a file named before the run can begin: another process may make the shot."""
    frames = bench.frames()
    spec = frames.rollout.spec
    with (
        spec.journal.lock(spec.id),
        pytest.raises(BadInput, match="is already running in process"),
    ):
        bench.run("LongtakeSaveVideo", frames=frames, format=format)
    assert not [event for event in bench.events if isinstance(event, FileSaved)]
    assert not [path for path in bench.state.folders["output"].rglob("*clip*")]


def test_a_log_is_begun_for_a_video_that_is_there(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process removes logs of videos that are not."""
    from longtake.nodes.outputs import unfinished

    seen: list[bool] = []

    def begin(video: Path, spec: Any) -> Any:
        seen.append(video.exists())
        return begin_log(video, spec)

    monkeypatch.setattr(unfinished, "begin_log", begin)
    bench.run("LongtakeSaveVideo", frames=bench.frames())
    assert seen == [True]


def test_a_video_whose_log_cannot_be_written_leaves_no_file(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    from longtake.nodes.outputs import unfinished

    def fail(*_: Any) -> Any:
        raise StorageError("No room.")

    monkeypatch.setattr(unfinished, "begin_log", fail)
    with pytest.raises(StorageError, match="No room"):
        bench.run("LongtakeSaveVideo", frames=bench.frames())
    assert not list(bench.state.folders["output"].rglob("*clip*"))


def test_a_saved_rollout_claims_its_number_and_leaves_no_file_if_it_fails(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    from longtake.nodes.rollouts import files

    seen: list[bool] = []

    def fail(path: Path, *_: Any) -> Any:
        seen.append(path.exists())
        raise StorageError("No room.")

    monkeypatch.setattr(files, "save_rollout", fail)
    with pytest.raises(StorageError, match="No room"):
        bench.run("LongtakeSaveRollout", rollout=bench.frames().rollout)
    assert seen == [True]
    folder = bench.state.folders["output"] / "longtake"
    assert not [path for path in folder.iterdir() if path.is_file()]


@pytest.mark.slow
def test_four_runs_at_once_make_four_whole_videos(tmp_path: Path) -> None:
    workflow = Path(__file__).parents[3] / "example_workflows" / "api" / "1_text_to_stream.json"
    command = [sys.executable, "-m", "longtake.headless.cli", "run", str(workflow),
               "--set", "5.length=2", "--set", "8.fps=8", "--out", str(tmp_path)]  # fmt: skip
    runs = [subprocess.Popen([*command, "--set", f"5.seed={seed}"]) for seed in range(4)]
    assert [run.wait() for run in runs] == [0] * 4
    videos = sorted((tmp_path / "longtake").glob("*.mp4"))
    assert [path.name for path in videos] == [f"clip_{n:05}_.mp4" for n in range(1, 5)]
    for path in videos:
        with av.open(str(path)) as video:
            assert sum(1 for _ in video.decode(video=0)) == 17
