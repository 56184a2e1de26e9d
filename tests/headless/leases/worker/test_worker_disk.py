"""A worker whose disk is full gives its row back and ends, in place of failing every row."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from longtake.errors import StorageError
from longtake.headless.batch.record import FAILED
from longtake.headless.leases.worker import disk
from longtake.headless.leases.worker.engine import OwnEngine
from longtake.headless.leases.worker.link import Task
from longtake.headless.leases.worker.worker import Worker
from longtake.tests.support.headless.lease_batches import Batch, FakeEngine, check_whole

pytestmark = pytest.mark.usefixtures("quickly")
FULL = r"disk takes no files at .* \(No space left on device\); free some space, then start"


def refuse(*_: object, **__: object) -> None:
    raise OSError(28, "No space left on device")


def test_a_row_that_fails_on_a_full_disk_goes_back(
    batch: Batch, join: Callable[..., Worker], monkeypatch: pytest.MonkeyPatch
) -> None:
    full = FakeEngine(error="the video cannot be written")
    with monkeypatch.context() as patched, pytest.raises(StorageError, match=FULL):
        patched.setattr(disk.tempfile, "TemporaryFile", refuse)
        join(batch, full, "full").run()
    assert full.seeds == [1], "it took no second row"
    assert join(batch, FakeEngine(), "other").run() == 8
    batch.join()
    check_whole(batch)


def test_a_row_that_wants_more_than_there_is_fails_alone(
    batch: Batch, join: Callable[..., Worker], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its own files fill the disk, which has room without them."""
    make = disk.tempfile.TemporaryFile

    def fill(*, dir: Path) -> object:
        return refuse() if any(dir.iterdir()) else make(dir=dir)

    monkeypatch.setattr(disk.tempfile, "TemporaryFile", fill)
    assert join(batch, FakeEngine(error="the video cannot be written")).run() == 8
    assert {record.state for record in batch.records()} == {FAILED}


def test_no_run_begins_on_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(disk.tempfile, "TemporaryFile", refuse)
    engine = OwnEngine(None)  # a session that is used ends the row with an error
    with pytest.raises(StorageError, match=FULL):
        engine.run(Task("lease", 60.0, "row 1", {}), tmp_path)
