"""The folder of a worker: what is in it while rows run, and what is left."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from rich.console import Console
from yarl import URL

from longtake.headless.leases.worker import joining
from longtake.headless.leases.worker.joining import ROWS, Joining, join
from longtake.machine.temporary_files import temporary_name
from longtake.tests.support.headless.lease_batches import KEY, Batch, FakeEngine, check_whole

pytestmark = pytest.mark.usefixtures("quickly")


def test_files_of_killed_workers_are_removed_and_those_of_running_ones_stay(
    batch: Batch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = tmp_path / "work" / ROWS
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    running, killed = (
        rows / temporary_name("a", process, 1) for process in (os.getppid(), dead.pid)
    )
    for folder in (running, killed):
        (folder / "lease").mkdir(parents=True)
        (folder / "lease" / "movie.mp4").touch()

    @contextmanager
    def engine(*_: object) -> Iterator[FakeEngine]:
        yield FakeEngine(lambda _: seen.append(set(rows.iterdir())))

    seen: list[set[Path]] = []
    monkeypatch.setattr(joining, "_engine", engine)
    assert join(Joining(URL(batch.url), KEY, "w", 30, rows.parent), Console(quiet=True)) == 8
    batch.join()
    assert running in seen[0] and killed not in seen[0] and len(seen[0]) == 2
    assert list(rows.iterdir()) == [running]
    check_whole(batch)
