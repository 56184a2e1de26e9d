"""Measured rollouts kept line by line, so that a bench of many hours can stop and resume.

The first line describes the settings and weights. A file with another description is rejected.
"""

from __future__ import annotations

import json
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from pathlib import Path

import numpy as np
import torch

from ...errors import BadInput, StorageError
from ...machine.temporary_files import write_whole
from .measures import Measurement

Job = tuple[str, int]
"""A case's name and a seed."""
FOREVER = float("inf")
"""The `until` of a bench without a time limit."""


class Records:
    """Measurements by case and seed, kept in the file `path` if given."""

    def __init__(self, path: Path | None, made_with: Mapping[str, object]) -> None:
        self.path, self.made_with = path, dict(made_with)
        self.measurements: dict[Job, Measurement] = {}
        if path is not None:
            try:
                self._open(path)
            except OSError as error:
                raise StorageError(
                    f"the record {path} cannot be read or written ({error.strerror}); choose "
                    "another --record file."
                ) from error

    def add(self, job: Job, measured: Measurement) -> None:
        """Keep one rollout; it is on disk when this returns."""
        self.measurements[job] = measured
        if self.path is not None:
            features = [[float(f"{value:.6g}") for value in row] for row in measured.features]
            self._append({"job": job, "figures": measured.figures, "features": features})

    def missing(self, cases: Sequence[str], seeds: range) -> list[Job]:
        """Return the missing jobs, all cases of a seed before the next seed."""
        jobs = ((case, seed) for seed in seeds for case in cases)
        return [job for job in jobs if job not in self.measurements]

    def of(self, case: str) -> dict[int, Measurement]:
        """Return the measurements of a case by seed."""
        pairs = sorted(self.measurements.items())
        return {seed: rollout for (name, seed), rollout in pairs if name == case}

    def complete(
        self, measure: Callable[[Job], Measurement], jobs: Sequence[Job], workers: int, until: float
    ) -> bool:
        """Measure `jobs` in processes of one thread and keep each result.

        Returns whether all jobs finished before `until` (of time.monotonic).
        """
        todo, running = deque(jobs), dict[Future[Measurement], Job]()
        with ProcessPoolExecutor(workers, None, torch.set_num_threads, (1,)) as pool:
            while running or (todo and time.monotonic() < until):
                while todo and len(running) < workers and time.monotonic() < until:
                    job = todo.popleft()
                    running[pool.submit(measure, job)] = job
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    self.add(running.pop(future), future.result())
        return not todo

    def _open(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        text = path.read_text("utf-8") if path.exists() else ""
        whole = text[: text.rfind("\n") + 1]  # drops a line that was cut off by a stop
        if whole != text:
            write_whole(path, whole)
        lines = [json.loads(line) for line in whole.splitlines()]
        if not lines:
            self._append(self.made_with)
        elif lines[0] != json.loads(json.dumps(self.made_with)):
            raise BadInput(
                f"{path} was recorded with {lines[0]}, but this bench uses {self.made_with}; "
                "choose another --record file."
            )
        for line in lines[1:]:
            case, seed = line["job"]
            self.measurements[case, seed] = Measurement(line["figures"], np.array(line["features"]))

    def _append(self, line: Mapping[str, object]) -> None:
        assert self.path is not None
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
