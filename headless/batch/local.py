"""A batch on this machine: one run after another in one open host."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

from ..events import Made
from ..runner import Job
from .record import DONE, FAILED, Record, SavedFile
from .row import Order


def jobs(order: Order, out: Path) -> Iterator[tuple[Job, Record]]:
    """Every workflow with every combination of values, each with a numbered folder of its own."""
    runs = [(path, values) for path in order.workflows for values in order.combinations()]
    for number, (workflow, values) in enumerate(runs, 1):
        folder = f"{number:03}-{workflow.stem}"
        record = Record(
            number, hashlib.sha256(folder.encode()).hexdigest(), str(workflow),
            {one.target: one.value for one in values}, folder,
        )  # fmt: skip
        yield Job(workflow, values, out / folder), record


def note_end(record: Record, made: Made, out: Path, *, seconds: float, error: str | None) -> None:
    """Write down how a job ended."""
    record.state, record.error, record.seconds = DONE if error is None else FAILED, error, seconds
    record.files = [
        SavedFile(file.role, file.path.relative_to(out.resolve()).as_posix()) for file in made.files
    ]
    record.report = {}
    if made.last is not None:
        known = ("frames", "first_frame_s", "frames_per_s", "resumed_from_chunk")
        record.report = {name: getattr(made.last, name) for name in known}
