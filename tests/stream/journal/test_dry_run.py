"""Laws of `gc --dry-run`: it says what cleanup would do, and writes nothing."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from longtake.errors import StorageError
from longtake.headless.cli import main
from longtake.stream.journal.cleanup import collect
from longtake.stream.journal.journal import Journal
from longtake.stream.rollout.rollout import Rollout
from longtake.stream.rollout.spec import RolloutSpec
from longtake.tests.support.stream.rollouts import MODEL, Words
from longtake.tests.support.tiny_model import settings

WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT


def shot(folder: Path, seed: int) -> Rollout:
    """A whole shot of one chunk in the journal."""
    given = settings(length=3, seed=seed)
    rollout = Rollout(RolloutSpec(given, MODEL, "model", Journal(folder), prompter=Words()))
    assert len(list(rollout.chunks)) == 1
    return rollout


def become_read_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """Refuse what a read-only disk refuses, also to root."""
    opened = os.open

    def refuse(path: Any, flags: int, *others: Any, **named: Any) -> int:
        if flags & WRITING:
            raise OSError(errno.EROFS, "Read-only file system")
        return opened(path, flags, *others, **named)

    monkeypatch.setattr(os, "open", refuse)


def test_a_dry_run_works_in_a_read_only_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = tmp_path / "longtake" / ".rollouts"
    rollout = shot(journal, 1)
    before = {path.name: path.stat().st_mtime_ns for path in journal.iterdir()}
    become_read_only(monkeypatch)
    told = CliRunner().invoke(
        main, ["rollouts", "gc", "--keep", "0", "--dry-run", "--out", str(tmp_path)]
    )
    assert told.exit_code == 0 and rollout.id in told.output, told.output
    assert "Would remove 1 rollout, 1 chunk" in told.output
    assert {path.name: path.stat().st_mtime_ns for path in journal.iterdir()} == before


@pytest.mark.parametrize("lock", ["lock", "reading"])
def test_a_dry_run_sees_what_is_in_use(tmp_path: Path, lock: str) -> None:
    """Also where another's lock file lies about that nobody holds any more."""
    first, second = shot(tmp_path, 1), shot(tmp_path, 2)
    (tmp_path / f"{second.id}.lock").write_text("1\n")
    with getattr(first.spec.journal, lock)(first.id):
        told = collect(first.spec.journal, 0, dry_run=True)
    assert [record.id for record in told.in_use] == [first.id]
    assert [record.id for record in told.removed] == [second.id]


@pytest.mark.skipif(os.name != "posix", reason="locks of POSIX")
def test_a_dry_run_works_on_nfs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """There an exclusive lock needs a file that is open for writing: `man 2 flock`."""
    import fcntl

    lock = fcntl.flock

    def lock_there(descriptor: int, operation: int) -> None:
        mode = fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_ACCMODE
        if operation & fcntl.LOCK_EX and mode == os.O_RDONLY:
            raise OSError(errno.EBADF, "Bad file descriptor")
        lock(descriptor, operation)

    rollout = shot(tmp_path, 1)
    (tmp_path / f"{rollout.id}.lock").write_text("1\n")
    monkeypatch.setattr(fcntl, "flock", lock_there)
    assert len(collect(rollout.spec.journal, 0, dry_run=True).removed) == 1


@pytest.mark.skipif(os.name != "posix", reason="a link to itself")
def test_a_lock_file_that_cannot_be_read_is_one_sentence(tmp_path: Path) -> None:
    rollout = shot(tmp_path, 1)
    lock = tmp_path / f"{rollout.id}.lock"
    lock.unlink(missing_ok=True)
    lock.symlink_to(lock)
    with pytest.raises(StorageError, match="cannot be read .*; check its permissions"):
        collect(rollout.spec.journal, 0, dry_run=True)
