"""`longtake batch`: several workflows, or one with a grid of values, run one after another."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from .overrides import Override, grid
from .runner import Job


@dataclass(frozen=True, slots=True)
class Result:
    """How one job of a batch ended: error is None when it was done."""

    job: Job
    files: tuple[Path, ...]
    seconds: float
    error: str | None


def jobs(workflows: Sequence[Path], overrides: Sequence[Override], out_dir: Path) -> Iterator[Job]:
    """Every workflow with every combination of values, each with a numbered folder of its own."""
    combinations = [(workflow, values) for workflow in workflows for values in grid(overrides)]
    for number, (workflow, values) in enumerate(combinations, 1):
        yield Job(workflow, values, out_dir / f"{number:03}-{workflow.stem}")


def write_summary(results: Sequence[Result], path: Path) -> None:
    """What ran with which values, how long, what came out, as JSON."""
    records = [
        {
            "workflow": str(result.job.workflow),
            "set": [str(override) for override in result.job.overrides],
            "out": str(result.job.out_dir),
            "files": [str(file) for file in result.files],
            "seconds": round(result.seconds, 3),
            "error": result.error,
        }
        for result in results
    ]
    path.write_text(json.dumps(records, indent=1) + "\n", encoding="utf-8")
