"""A batch on this machine: one run after another in one open host."""

from __future__ import annotations

from pathlib import Path

from ..events import RunFiles
from ..runner import Host, Job
from ..workflow.graph import load
from .record import DONE, FAILED, Record, Records, SavedFile
from .row import REMEDY, BatchSpec, Row, build_rows
from .tables import FACTS


def check_rows(spec: BatchSpec, host: Host, remedy: str = REMEDY) -> list[Row]:
    """All rows of a batch, checked by the node types of a host; BadInput at a fault."""
    workflows = [load(path) for path in spec.workflows]
    types = [node.class_type for flow in workflows for node in flow.nodes.values()]
    return list(build_rows(workflows, spec, host.specs(types), remedy))


def plan(spec: BatchSpec, host: Host, records: Records) -> list[tuple[Job, Record]]:
    """Every workflow with every combination of values, each in the state of an earlier run.

    Raises BadInput at a fault, before anything runs.
    """
    rows = check_rows(spec, host, host.unknown_remedy)
    records.resume()
    records.merge_rows(row.record for row in rows)
    runs = [(path, values) for path in spec.workflows for values in spec.combinations()]
    return [
        (Job(path, values, records.out / row.record.folder), row.record)
        for (path, values), row in zip(runs, rows, strict=True)
    ]


def record_end(
    record: Record, run_files: RunFiles, out: Path, *, seconds: float, error: str | None
) -> None:
    """Record how a job ended."""
    record.state, record.error, record.seconds = DONE if error is None else FAILED, error, seconds
    record.files = [SavedFile(file.role, path_below(file.path, out)) for file in run_files.files]
    record.report = report_of(run_files)


def path_below(path: Path, folder: Path) -> str:
    """A file's path below a folder; the whole path of a file that a node has saved elsewhere."""
    root = folder.resolve()
    return (path.relative_to(root) if path.is_relative_to(root) else path).as_posix()


def report_of(run_files: RunFiles) -> dict[str, object]:
    """Return the facts of a run: those of its report, else what its last chunk tells."""
    if run_files.report is not None:
        return {name: run_files.report.get(name) for name in FACTS}
    known = ("frames", "first_frame_s", "frames_per_s", "resumed_from_chunk")
    return {name: getattr(run_files.last, name) for name in known} if run_files.last else {}
