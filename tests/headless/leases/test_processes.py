"""Driver and workers as processes: a worker killed, a driver restarted, the bits of one machine."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from longtake.headless.batch.record import DONE, QUEUED
from longtake.tests.support.headless.real_batches import (
    assert_same_shots,
    batch_of,
    longtake,
    records_of,
)
from longtake.tests.support.server_process import free_port

ROWS, LIMIT_S = 5, 300
KEY = "a-key-of-this-test-0123"


def wait_until(holds: Callable[[], bool], *logs: Path) -> None:
    limit = time.monotonic() + LIMIT_S
    while not holds():
        assert time.monotonic() < limit, "\n".join(log.read_text() for log in logs)
        time.sleep(0.1)


@pytest.mark.slow
def test_a_killed_worker_and_a_killed_driver_cost_no_row(tmp_path: Path) -> None:
    key, out, port = tmp_path / "key.txt", tmp_path / "shots", free_port()
    key.write_text(KEY)
    joining = ["worker", "--join", f"127.0.0.1:{port}", "--key-file", str(key)]
    driving = [*batch_of(ROWS, out), "--serve", f"127.0.0.1:{port}", "--key-file", str(key),
               "--lease", "5"]  # fmt: skip
    log, first_log, second_log = (tmp_path / name for name in ("driver", "first", "second"))

    def states() -> list[str]:
        return [row.state for row in records_of(out)] if (out / "batch.jsonl").exists() else []

    driver = longtake(*driving, log=log)
    first = longtake(*joining, "--work", str(tmp_path / "one"), log=first_log)
    second = longtake(*joining, "--work", str(tmp_path / "two"), log=second_log)
    try:
        wait_until(lambda: DONE in states() and QUEUED in states(), log, first_log, second_log)
        first.kill()
        driver.kill()
        driver.wait(LIMIT_S)
        driver = longtake(*driving, log=log)
        wait_until(lambda: driver.poll() is not None, log, second_log)
        assert driver.returncode == 0, log.read_text()
        wait_until(lambda: second.poll() is not None, second_log)
        assert second.returncode == 0, second_log.read_text()
    finally:
        for process in (driver, first, second):
            process.send_signal(signal.SIGKILL)
            process.wait(LIMIT_S)
    assert KEY not in log.read_text() + first_log.read_text() + second_log.read_text()
    alone = longtake(*batch_of(ROWS, tmp_path / "alone"), log=tmp_path / "alone.log")
    assert alone.wait(LIMIT_S) == 0
    assert_same_shots(out, tmp_path / "alone")
