"""Measured rollouts kept line by line, so that a bench of many hours may stop and go on.

The first line says what the others were made with; a file of other settings or weights is refused.
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
from .measures import Measured

Job = tuple[str, int]
"""A case's name and a seed."""


class Records:
    """What has been measured: by case and seed; on disk too when there is a `path`."""

    def __init__(self, path: Path | None, made_with: Mapping[str, object]) -> None:
        self.path, self.made_with = path, dict(made_with)
        self.found: dict[Job, Measured] = {}
        if path is not None:
            try:
                self._open(path)
            except OSError as error:
                raise StorageError(
                    f"the record {path} cannot be read or written ({error.strerror}); choose "
                    "another --record file."
                ) from error

    def add(self, job: Job, measured: Measured) -> None:
        """Keep one rollout; it is on disk when this returns."""
        self.found[job] = measured
        if self.path is not None:
            features = [[float(f"{value:.6g}") for value in row] for row in measured.features]
            self._append({"job": job, "figures": measured.figures, "features": features})

    def missing(self, cases: Sequence[str], seeds: range) -> list[Job]:
        """What is still to be measured, all cases of a seed before the next seed."""
        jobs = ((case, seed) for seed in seeds for case in cases)
        return [job for job in jobs if job not in self.found]

    def of(self, case: str) -> dict[int, Measured]:
        """What was measured of a case, by seed."""
        return {seed: one for (name, seed), one in sorted(self.found.items()) if name == case}

    def complete(
        self, measure: Callable[[Job], Measured], jobs: Sequence[Job], workers: int, until: float
    ) -> bool:
        """Measure `jobs` in processes of one thread and keep each; whether there was time for all
        before `until` (of time.monotonic).
        """
        todo, running = deque(jobs), dict[Future[Measured], Job]()
        with ProcessPoolExecutor(workers, None, torch.set_num_threads, (1,)) as pool:
            while running or (todo and time.monotonic() < until):
                while todo and len(running) < workers and time.monotonic() < until:
                    job = todo.popleft()
                    running[pool.submit(measure, job)] = job
                for one in wait(running, return_when=FIRST_COMPLETED).done:
                    self.add(running.pop(one), one.result())
        return not todo

    def _open(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        text = path.read_text("utf-8") if path.exists() else ""
        whole = text[: text.rfind("\n") + 1]  # a line that was being written when it stopped
        if whole != text:
            path.write_text(whole, "utf-8")
        lines = [json.loads(line) for line in whole.splitlines()]
        if not lines:
            self._append(self.made_with)
        elif lines[0] != json.loads(json.dumps(self.made_with)):
            raise BadInput(
                f"{path} was recorded with {lines[0]} and this bench has {self.made_with}; choose "
                "another --record file."
            )
        for line in lines[1:]:
            case, seed = line["job"]
            self.found[case, seed] = Measured(line["figures"], np.array(line["features"]))

    def _append(self, line: Mapping[str, object]) -> None:
        assert self.path is not None
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
