"""Laws of the lock: one owner at a time, whatever happens to its file."""

from __future__ import annotations

import errno
import os
import sys
from pathlib import Path

import pytest

from longtake.errors import BadInput, StorageError
from longtake.stream.journal import lock as lock_module
from longtake.stream.journal.journal import Journal

posix = pytest.mark.skipif(os.name != "posix", reason="lock files as on POSIX")


def test_a_folder_without_locks_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: int, *, shared: bool) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(lock_module, "_lock", refuse)
    with pytest.raises(StorageError, match="does not support file locks"):
        Journal(tmp_path).lock("r")


@posix
@pytest.mark.parametrize("call", ["write", "ftruncate", "lseek"])
def test_a_lock_file_that_cannot_be_written_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    """And is not left open."""
    (tmp_path / "r.lock").write_text("1" * 20)  # of an owner with a longer process id

    def fail(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, call, fail)
        opened = len(os.listdir("/proc/self/fd")) if sys.platform == "linux" else 0
        with pytest.raises(StorageError, match=r"r\.lock cannot be written \(No space left"):
            Journal(tmp_path).lock("r")
        if sys.platform == "linux":
            assert len(os.listdir("/proc/self/fd")) == opened
    Journal(tmp_path).lock("r").release()


@pytest.mark.parametrize("before", ["", "7\n", "123456789012\n", "words\nof\nothers\n", "own"])
def test_the_file_names_its_owner_alone(tmp_path: Path, before: str) -> None:
    own = f"{os.getpid()}\n"
    (tmp_path / "r.lock").write_text(own if before == "own" else before)
    with Journal(tmp_path).lock("r"):
        with pytest.raises(BadInput, match=f"already running in process {os.getpid()};"):
            Journal(tmp_path).lock("r")
        if os.name == "posix":
            assert (tmp_path / "r.lock").read_text() == own


@posix
def test_a_lock_whose_file_was_deleted_is_taken_on_the_new_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An owner deletes the file between the opening and the locking of another one."""
    journal, plain = Journal(tmp_path), lock_module._lock
    first = journal.lock("r")

    def late(descriptor: int, *, shared: bool) -> None:
        first.delete()
        plain(descriptor, shared=shared)

    monkeypatch.setattr(lock_module, "_lock", late)
    with journal.lock("r"):
        monkeypatch.undo()
        with pytest.raises(BadInput, match="already running"):
            journal.lock("r")
