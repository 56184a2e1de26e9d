"""What a killed writer leaves beside the files of users is removed by the next writer there."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from longtake.attention.cache.kv_cache import KVCache
from longtake.attention.cache.policy import FullHistory
from longtake.attention.storage.packed import Packed
from longtake.attention.storage.placement import OnDisk
from longtake.attention.storage.quantize import INT8
from longtake.attention.storage.shape import CacheShape
from longtake.headless.batch.record import Records
from longtake.machine.temporary_files import (
    IN_USE_S,
    remove_leftovers,
    temporary_name,
    write_whole,
)
from longtake.model.files.safetensors_writer import info_of, write
from longtake.nodes.sampling.schedule_picture import draw_schedule
from longtake.samplers.schedule.levels import flow_ladder
from longtake.samplers.schedule.rows import causal_chunks
from longtake.stream.journal.journal import Journal
from longtake.stream.lazy.frame_chunk import to_pictures
from longtake.stream.video.contact_sheet import ContactSheet
from longtake.stream.video.spec import PNGFrames, VideoSpec
from longtake.stream.video.writer import open_video

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="kills as POSIX does")
SHAPE = CacheShape(1, 1, 2, 16, rows=2, columns=3, chunk_frames=3)
PICTURES = torch.zeros(2, 3, 16, 16)


def save_tensors(folder: Path) -> None:
    weights = {"a": torch.zeros(4)}
    write(folder / "a.rollout.safetensors", [info_of("a", weights["a"])], weights.items(), {})


def save_sheet(folder: Path) -> None:
    sheet = ContactSheet(fps=16.0)
    sheet.add(to_pictures(PICTURES))
    sheet.save(folder / f"sheet_{sum(1 for _ in folder.glob('*.png'))}.png")


def save_frames(folder: Path) -> None:
    """Frames of each run are in a folder of their own, which no later run opens."""
    number = sum(1 for _ in folder.glob("frames_*"))
    with open_video(folder / f"frames_{number}", VideoSpec(16, 16, 16.0, PNGFrames())) as video:
        video.write(PICTURES)


def save_schedule(folder: Path) -> None:
    name = f"schedule_{sum(1 for _ in folder.glob('*.png'))}.png"
    draw_schedule(causal_chunks(flow_ladder(2, 3.0)), folder / name, 6)


def save_chunk(folder: Path) -> None:
    journal = Journal(folder)
    with journal.lock("0" * 16):
        journal.write("1" * 64, {"latents": torch.zeros(4)}, {})


def save_batch(folder: Path) -> None:
    Records(folder).start([])


def save_report(folder: Path) -> None:
    write_whole(folder / "[r].json", "{}")


WRITERS = [
    save_tensors,
    save_sheet,
    save_frames,
    save_schedule,
    save_chunk,
    save_batch,
    save_report,
]


def kill_at_rename(writer: Callable[[Path], None], folder: Path) -> None:
    """Run a writer in a process that dies just before its file gets its name."""
    child = os.fork()
    if child == 0:

        def die(*_: Any) -> None:
            os.kill(os.getpid(), signal.SIGKILL)

        try:
            os.replace = die  # type: ignore[assignment]
            writer(folder)
        finally:
            os._exit(0)
    assert os.WIFSIGNALED(os.waitpid(child, 0)[1])


def leftovers(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*.tmp"))


@pytest.mark.parametrize("writer", WRITERS)
def test_the_next_writer_removes_what_a_kill_left(
    tmp_path: Path, writer: Callable[[Path], None]
) -> None:
    kill_at_rename(writer, tmp_path)
    assert len(leftovers(tmp_path)) == 1
    writer(tmp_path)
    assert leftovers(tmp_path) == []


@pytest.mark.parametrize("writer", WRITERS)
def test_files_of_running_processes_and_of_users_stay(
    tmp_path: Path, writer: Callable[[Path], None]
) -> None:
    running = temporary_name("a.png", os.getppid(), 1)
    names = [running, "mine.tmp", "mine.1.2.tmp", ".longtake.tmp"]
    for name in names:
        (tmp_path / name).touch()
    writer(tmp_path)
    assert leftovers(tmp_path) == sorted(names)


def test_a_history_on_disk_that_a_kill_left_goes_with_the_next(tmp_path: Path) -> None:
    def open_history() -> KVCache:
        return KVCache(SHAPE, FullHistory(), storage=Packed(INT8, 3, OnDisk(tmp_path)))

    child = os.fork()
    if child == 0:
        history = open_history()
        os.kill(os.getpid(), signal.SIGKILL)
        history.drop()
    os.waitpid(child, 0)
    assert len(list(tmp_path.iterdir())) == 1
    first, second = open_history(), open_history()
    assert len(list(tmp_path.iterdir())) == 2
    for history in (first, second):
        history.drop()
    assert not list(tmp_path.iterdir())


def test_a_process_with_the_id_of_the_killed_one_removes_its_files(tmp_path: Path) -> None:
    """As in a container, where every start has the same id: what no thread writes is old."""
    old, new = (tmp_path / temporary_name("a", thread=n) for n in (1, threading.get_ident()))
    old.touch(), new.touch()
    remove_leftovers(tmp_path)
    assert leftovers(tmp_path) == [new.name]


@pytest.mark.parametrize("is_folder", [False, True])
def test_files_of_other_machines_stay_until_they_are_old(tmp_path: Path, is_folder: bool) -> None:
    """As in a folder that two containers share: here nobody knows their processes."""
    theirs = tmp_path / f"a.gif.00000000.{os.getpid()}.1.longtake.tmp"
    inside = theirs / "frames" if is_folder else theirs
    inside.parent.mkdir(exist_ok=True)
    inside.touch()
    remove_leftovers(tmp_path)
    assert theirs.exists()
    before = time.time() - IN_USE_S - 1
    os.utime(theirs, (before, before))
    remove_leftovers(tmp_path)
    assert theirs.exists() == is_folder  # in which something is new
    if is_folder:
        os.utime(inside, (before, before))
        remove_leftovers(tmp_path)
    assert not theirs.exists()
