"""Laws of syncing behind the writer that no other test of the journal states."""

from __future__ import annotations

import gc
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from longtake.stream.journal import disk_sync
from longtake.stream.journal.journal import Journal


def test_the_thread_that_syncs_may_collect_the_shot_whose_file_it_syncs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would wait for itself, and the shot's lock would be held until the process ends."""
    journal, sync = Journal(tmp_path), disk_sync._sync
    syncing, dropped, closed = threading.Event(), threading.Event(), threading.Event()

    def write_chunks() -> Iterator[None]:
        try:
            with journal.sync_behind() as to_disk:
                journal.write("a", {"latents": torch.zeros(2)}, {}, to_disk)
                yield
        finally:
            closed.set()

    def collect(path: Path, flags: int) -> None:
        syncing.set()
        assert dropped.wait(60)
        gc.collect()
        sync(path, flags)

    monkeypatch.setattr(disk_sync, "_sync", collect)
    gc.disable()  # on other threads
    try:
        shot: list[object] = [write_chunks()]
        shot.append(shot)  # only the garbage collector can free it
        next(shot[0])  # type: ignore[call-overload]
        assert syncing.wait(60)
        del shot
        dropped.set()
        assert closed.wait(60)
    finally:
        gc.enable()
    assert journal.read("a") is not None
