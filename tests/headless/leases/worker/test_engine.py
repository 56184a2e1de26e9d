"""What a worker hands over of a run in its own process."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from longtake.errors import BadInput
from longtake.headless.batch.local import record_end, report_of
from longtake.headless.batch.record import Record, SavedFile
from longtake.headless.events import ChunkDone, FileSaved, ReportShown, RunFiles
from longtake.headless.leases.worker.engine import OwnEngine
from longtake.headless.leases.worker.link import Task
from longtake.headless.runner import Job

TASK = Task("an-id", 60.0, "row 1", {"1": {"class_type": "Save", "inputs": {}}}, "a-row", 3)


@dataclass
class FakeSession:
    """A session whose workflow saves a video and a folder of frames, or fails."""

    problem: str = ""
    leases: list[tuple[str, int]] = field(default_factory=list)
    interruptions: int = 0
    act: Callable[[], object] = lambda: None

    @property
    def host(self) -> FakeSession:
        return self

    def hold_lease(self, row: str, number: int) -> None:
        self.leases.append((row, number))

    def interrupt(self) -> None:
        self.interruptions += 1

    def run(self, job: Job, run_files: RunFiles) -> float:
        self.act()
        assert json.loads(job.workflow.read_text()) == TASK.workflow
        assert self.leases == [("a-row", 3)]
        out = job.out_dir.resolve()
        (out / "clip_frames").mkdir(parents=True)
        for path in ("clip.mp4", "clip_frames/b.png", "clip_frames/a.png"):
            (out / path).touch()
        run_files.add(FileSaved("video", out / "clip.mp4"))
        run_files.add(FileSaved("frames", out / "clip_frames"))
        run_files.add(ChunkDone(chunk=2, chunks=3, frames=33, frames_per_s=8.0))
        if self.problem:
            raise BadInput(self.problem)
        return 1.0


def test_a_folder_of_frames_is_handed_over_as_its_files(tmp_path: Path) -> None:
    engine = OwnEngine(FakeSession())
    assert engine.chunks == (None, None)
    ending = engine.run(TASK, tmp_path / "row")
    assert ending.files == (
        SavedFile("video", "clip.mp4"),
        SavedFile("frames", "clip_frames/a.png"),
        SavedFile("frames", "clip_frames/b.png"),
    )
    assert dict(ending.report)["frames"] == 33
    assert engine.chunks == (3, 3)
    assert not (tmp_path / "row" / "workflow.json").exists()


def test_a_row_on_this_machine_has_the_numbers_of_its_report() -> None:
    """As a row on a server has them: a joined video has more frames than its last chunk says."""
    run_files = RunFiles()
    run_files.add(ChunkDone(chunk=10, frames=129, first_frame_s=0.4, frames_per_s=60.0))
    run_files.add(ReportShown({"frames": 201, "frames_per_s": 60.0, "kv_bytes": 7}))
    run_files.add(ReportShown({"frames": 9}))
    report = report_of(run_files)
    assert report["frames"] == 201
    assert report["kv_bytes"] == 7


def test_a_run_that_fails_ends_its_row_with_the_sentence(tmp_path: Path) -> None:
    ending = OwnEngine(FakeSession("no such model.")).run(TASK, tmp_path)
    assert ending.error == "no such model."
    assert ending.files == ()


def test_a_fault_of_ours_ends_that_row_alone(tmp_path: Path) -> None:
    ending = OwnEngine(None).run(TASK, tmp_path)
    assert ending.error is not None and ending.error.startswith("internal error, AttributeError")


def test_a_lease_that_ends_after_its_run_does_not_stop_the_next_row(tmp_path: Path) -> None:
    live = FakeSession()
    engine = OwnEngine(live)
    engine.run(TASK, tmp_path / "row")
    engine.interrupt()  # while the files are sent
    assert live.interruptions == 0
    live.act, live.leases = engine.interrupt, []
    engine.run(TASK, tmp_path / "next")
    assert live.interruptions == 1


def test_a_file_outside_the_folder_keeps_its_whole_path(tmp_path: Path) -> None:
    """The worker then fails the row; another row is no concern of it."""
    files, outside = RunFiles(), tmp_path / "elsewhere" / "a.mp4"
    files.add(FileSaved("video", outside))
    record = Record(1, "key", "w.json", {}, "001-w")
    record_end(record, files, tmp_path / "out", seconds=1.0, error=None)
    assert record.files == [SavedFile("video", outside.as_posix())]
