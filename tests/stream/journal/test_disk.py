"""Laws of failing disks: a run on a full or read-only disk ends with one sentence, keeps its
finished chunks, and continues with the same bits once the disk is usable again.
"""

from __future__ import annotations

import builtins
import errno
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from longtake.errors import StorageError
from longtake.samplers.loop import Chunk
from longtake.stream.journal import snapshots
from longtake.stream.journal.cleanup import collect
from longtake.stream.journal.records import records
from longtake.stream.journal.snapshots import ENDING
from longtake.tests.support.stream.rollouts import assert_same_bits, rollout
from longtake.tests.support.stream.small_disk import small_disk

SMALL = "320k"  # of disk; the shots below take more


def until_it_fails(folder: Path, **given: Any) -> list[Chunk]:
    """Collect the chunks that a run hands out before its disk fails."""
    made, chunks = rollout(folder, **given), list[Chunk]()
    with pytest.raises(StorageError, match="space|cannot be"):
        for chunk in made.chunks:
            chunks.append(chunk)
    assert made.controls.state == "stopped"
    return chunks


@pytest.mark.some_cases(2)
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EROFS], ids=["full", "read-only"])
@pytest.mark.parametrize("every", [0, 1], ids=["", "snapshots"])
def test_a_disk_failing_at_any_write_loses_no_finished_chunk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, every: int
) -> None:
    """Fails the first write, then the second, and so on: chunks, records and snapshots."""
    whole = list(rollout(tmp_path / "whole").chunks)
    plain, failed = builtins.open, 0
    for fatal in range(1, 30):
        folder, writes = tmp_path / str(fatal), 0

        def opened(
            file: Any,
            mode: str = "r",
            *more: Any,
            at: tuple[Path, int] = (folder, fatal),
            **named: Any,
        ) -> Any:
            nonlocal writes
            if str(file).startswith(str(at[0])) and set(mode) & set("wxa"):
                writes += 1
                if writes >= at[1]:
                    raise OSError(code, os.strerror(code), str(file))
            return plain(file, mode, *more, **named)

        with monkeypatch.context() as patch:
            patch.setattr(builtins, "open", opened)
            patch.setattr("io.open", opened)
            try:
                chunks = list(rollout(folder, snapshot_chunks=every).chunks)
                break
            except StorageError:
                failed += 1
                chunks = []
        kept = rollout(folder).spec.stored_chunks()
        again = rollout(folder, snapshot_chunks=every)
        assert_same_bits(list(again.chunks), whole)
        assert again.resumed_from == (kept % 4 or None)  # all 4 were there, or none
    assert failed >= 5 and len(chunks) == 4


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    with small_disk(tmp_path / "disk", SMALL) as folder:
        yield folder


def test_a_run_on_a_full_disk_continues_when_space_is_freed(disk: Path, tmp_path: Path) -> None:
    given = {"length": 240, "rows": 8, "columns": 12}
    chunks = until_it_fails(disk, **given)
    assert 5 < len(chunks) < 80
    assert rollout(disk, **given).spec.stored_chunks() == len(chunks)
    subprocess.run(["mount", "-o", "remount,size=64m", str(disk)], check=True)
    again = rollout(disk, **given)
    assert_same_bits(list(again.chunks), list(rollout(tmp_path / "whole", **given).chunks))
    assert again.resumed_from == len(chunks)


def test_a_journal_removed_in_mid_run_is_no_full_disk(tmp_path: Path) -> None:
    whole = list(rollout(tmp_path / "whole").chunks)
    folder = tmp_path / "removed"
    making = iter(rollout(folder).chunks)
    next(making)
    shutil.rmtree(folder)
    with pytest.raises(StorageError, match="was removed while the shot was made; run again"):
        list(making)
    assert_same_bits(list(rollout(folder).chunks), whole)


def test_finished_chunks_can_be_read_from_a_read_only_disk(disk: Path) -> None:
    made = rollout(disk, snapshot_chunks=2)
    chunks = list(made.chunks)
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    assert_same_bits(list(rollout(disk).chunks), chunks)
    assert [record.id for record in records(made.spec.journal)] == [made.id]
    assert len(until_it_fails(disk, length=24)) == 4
    subprocess.run(["mount", "-o", "remount,rw,size=64m", str(disk)], check=True)
    assert len(list(rollout(disk, length=24).chunks)) == 8


@pytest.mark.parametrize("version", [99, 0], ids=["newer", "older"])
def test_a_snapshot_and_a_record_of_another_format_are_left_alone(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    version: int,
) -> None:
    """The run replays instead, and does not write into the record."""
    with monkeypatch.context() as patch:
        patch.setattr(snapshots, "VERSION", version)
        patch.setattr("longtake.stream.journal.records.VERSION", version)
        made = rollout(tmp_path, snapshot_chunks=2)
        chunks = list(made.chunks)
    [state], [record] = tmp_path.glob(f"*{ENDING}"), tmp_path.glob("*.rollout")
    other = state.read_bytes(), record.read_bytes()
    assert_same_bits(list(rollout(tmp_path, length=15).chunks)[:4], chunks)
    assert (state.read_bytes(), record.read_bytes()) == other
    assert records(made.spec.journal) == []
    for name, own in ((state.name, snapshots.VERSION), (record.name, 2)):
        assert f"{name} has format {version} and this Longtake reads format {own}" in caplog.text
    assert collect(made.spec.journal, 0).chunks == 0  # only the other Longtake knows whose they are
