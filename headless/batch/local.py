"""A batch on this machine: one run after another in one open host."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

from ..events import RunFiles
from ..runner import Job
from .record import DONE, FAILED, Record, SavedFile
from .row import BatchSpec


def jobs(spec: BatchSpec, out: Path) -> Iterator[tuple[Job, Record]]:
    """Yield every workflow with every combination of values, each with a numbered folder."""
    runs = [(path, values) for path in spec.workflows for values in spec.combinations()]
    for number, (workflow, values) in enumerate(runs, 1):
        folder = f"{number:03}-{workflow.stem}"
        record = Record(
            number, hashlib.sha256(folder.encode()).hexdigest(), str(workflow),
            {override.target: override.value for override in values}, folder,
        )  # fmt: skip
        yield Job(workflow, values, out / folder), record


def record_end(
    record: Record, run_files: RunFiles, out: Path, *, seconds: float, error: str | None
) -> None:
    """Record how a job ended."""
    record.state, record.error, record.seconds = DONE if error is None else FAILED, error, seconds
    record.files = [
        SavedFile(file.role, file.path.relative_to(out.resolve()).as_posix())
        for file in run_files.files
    ]
    record.report = report_of(run_files)


def report_of(run_files: RunFiles) -> dict[str, object]:
    """Return what the last chunk of a run tells about all of it."""
    if run_files.last is None:
        return {}
    known = ("frames", "first_frame_s", "frames_per_s", "resumed_from_chunk")
    return {name: getattr(run_files.last, name) for name in known}
