"""What Windows does otherwise with files leaves nothing behind, and stops no run.

Its rules are those of tests/support/as_windows.py.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from longtake.attention.cache.kv_cache import KVCache
from longtake.attention.cache.policy import FullHistory
from longtake.attention.snapshot import Snapshot
from longtake.attention.storage.packed import Packed
from longtake.attention.storage.placement import OnDisk
from longtake.attention.storage.quantize import INT8
from longtake.attention.storage.shape import CacheShape
from longtake.machine.temporary_files import (
    IN_USE_S,
    put_in_place,
    remove_leftovers,
    temporary_name,
)
from longtake.stream.journal.journal import Journal
from longtake.stream.journal.lock import ProcessLock
from longtake.stream.journal.snapshots import Snapshots
from longtake.stream.store.folder import FolderStore
from longtake.stream.video.pieces import begin_log
from longtake.stream.video.spec import VideoSpec

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks at /proc for open files")
if sys.platform == "linux":
    from longtake.tests.support.as_windows import become_windows

KEY = "1" * 64
SHAPE = CacheShape(3, 1, 2, 16, rows=2, columns=3, chunk_frames=3)


@pytest.fixture(autouse=True)
def _on_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    become_windows(monkeypatch)


def write_chunk(folder: Path) -> None:
    Journal(folder).write(KEY, {"latents": torch.ones(4)}, {})


def write_to_store(folder: Path) -> None:
    FolderStore(folder).write("chunk", b"new")


@pytest.mark.parametrize("writer", [write_chunk, write_to_store])
def test_a_file_is_replaced_when_its_reader_is_done(
    tmp_path: Path, writer: Callable[[Path], None]
) -> None:
    writer(tmp_path)
    [path] = (path for path in tmp_path.iterdir() if path.is_file())
    reader, before = path.open("rb"), path.stat().st_ino
    closing = threading.Timer(0.2, reader.close)
    closing.start()
    writer(tmp_path)
    closing.join()
    assert path.stat().st_ino != before
    assert [path] == [path for path in tmp_path.iterdir() if path.is_file()]


def test_a_file_that_stays_open_is_an_error_that_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("longtake.machine.temporary_files.PATIENCE_S", 0.1)
    old, new = tmp_path / "old", tmp_path / "new"
    old.write_bytes(b"old"), new.write_bytes(b"new")
    with old.open("rb"), pytest.raises(PermissionError):
        put_in_place(new, old)
    assert old.read_bytes() == b"old"


def test_a_finished_video_has_no_lock_beside_it(tmp_path: Path) -> None:
    log = begin_log(tmp_path / "video_00001_.mp4", VideoSpec(16, 16, 16.0))
    assert list(tmp_path.iterdir())
    log.close(complete=True)
    assert not list(tmp_path.iterdir())


def test_a_lock_that_another_run_has_taken_meanwhile_is_left_to_that_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, next_owner = tmp_path / "a.lock", list[ProcessLock]()
    lock = ProcessLock(path, "This video")
    release = lock.release

    def release_to_another() -> None:
        release()
        next_owner.append(ProcessLock(path, "This video"))

    monkeypatch.setattr(lock, "release", release_to_another)
    lock.delete()
    assert path.exists()
    next_owner[0].delete()
    assert not path.exists()


def test_a_history_on_disk_leaves_no_file_as_it_grows_and_ends(tmp_path: Path) -> None:
    storage = Packed(INT8, 3, OnDisk(tmp_path / "kv"))
    cache = KVCache(SHAPE, FullHistory(), storage=storage)
    sizes = 1, 3 * SHAPE.frame_tokens, SHAPE.heads, SHAPE.head_dim
    for _ in range(23):  # grows at 64 latent frames
        cache.commit([(torch.ones(sizes), torch.ones(sizes))] * SHAPE.layers)
    files = list(tmp_path.rglob("*.kv"))
    assert sum(file.stat().st_size for file in files) == cache.offloaded_bytes
    cache.drop()
    assert not list(tmp_path.rglob("*.kv"))


def test_a_state_can_be_deleted_while_its_tensors_are_in_use(tmp_path: Path) -> None:
    states = Snapshots(Journal(tmp_path), "this model")
    states.keep(KEY, Snapshot({"keys": torch.ones(4)}, {}))
    state = states.read(KEY)
    states.drop(KEY)
    assert state is not None and not list(tmp_path.iterdir())


def test_what_a_kill_left_goes_when_it_is_old(tmp_path: Path) -> None:
    old, new = (tmp_path / temporary_name("a", 10**9, n) for n in (1, 2))
    old.touch(), new.touch()
    before = time.time() - IN_USE_S - 1
    os.utime(old, (before, before))
    remove_leftovers(tmp_path)
    assert list(tmp_path.iterdir()) == [new]


def test_a_pipe_without_letters_for_a_name_gets_their_numbers(tmp_path: Path) -> None:
    """There a pipe has the letters of one country."""
    save_file({"a": torch.zeros(1)}, tmp_path / "日本.safetensors")
    start = "from longtake.headless.start import main; main()"
    command = [sys.executable, "-c", start, "inspect", "日本.safetensors"]
    environment = {**os.environ, "PYTHONIOENCODING": "cp1252"}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, check=False)
    assert rb"file        \u65e5\u672c.safetensors" in done.stdout
    assert b"Traceback" not in done.stderr
