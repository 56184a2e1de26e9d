"""Names of a row's files, as a worker gives them and a driver takes them."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from longtake.headless.batch.record import SavedFile
from longtake.headless.leases.messages import read_ending
from longtake.headless.leases.names import is_safe, rename_files
from longtake.headless.leases.queue import Ending
from longtake.headless.leases.worker.link import AllEnded, Link, Task
from longtake.headless.leases.worker.loop import loop_thread
from longtake.headless.leases.worker.worker import Worker
from longtake.tests.support.laws import examples

PARTS = st.sampled_from(
    ["a", "A", "what: a clip?", ".hidden", "...", " ", "NUL.png", "con", "x" * 230, "é. ", "a_",
     "b.", "a" * 150 + ".png", "." + "y" * 230, "clip.mp4"]
)  # fmt: skip
PATHS = st.lists(st.lists(PARTS, min_size=1, max_size=4).map("/".join), max_size=5, unique=True)


@examples(40)
@given(PATHS)
def test_every_file_gets_a_safe_name_of_its_own_and_stays_itself(
    tmp_path_factory: pytest.TempPathFactory, paths: list[str]
) -> None:
    folder = tmp_path_factory.mktemp("row")
    files = [SavedFile("frames", f"{number}/{path}") for number, path in enumerate(paths)]
    files += [SavedFile("frames", file.path + "?") for file in files]  # collides with `_`
    for file in files:
        (folder / file.path).parent.mkdir(parents=True, exist_ok=True)
        (folder / file.path).write_text(file.path)
    renamed = rename_files(folder, files)
    assert all(is_safe(file.path) for file in renamed)
    assert len({file.path.lower() for file in renamed}) == len(files)
    for old, new in zip(files, renamed, strict=True):
        assert (folder / new.path).read_text() == old.path
        assert new.path == old.path or not is_safe(old.path)


def test_a_safe_name_stays(tmp_path: Path) -> None:
    names = ("longtake/clip_00001_.mp4", "a b/frame_000000.png", "élan/clip.v2.webm")
    files = tuple(SavedFile("video", name) for name in names)
    assert rename_files(tmp_path, files) == files


def test_a_name_that_windows_takes_is_cut_for_a_driver_on_linux(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There, 255 letters fit; here, 255 bytes of UTF-8, so that this name cannot be made."""
    monkeypatch.setattr(Path, "rename", lambda *_: None)
    [file] = rename_files(tmp_path, [SavedFile("frames", "雪" * 150 + ".png")])
    assert file.path == "雪" * 53 + ".png" and is_safe(file.path)
    assert is_safe("雪" * 85) and not is_safe("雪" * 86)
    (tmp_path / ("雪" * 85)).touch()


class FakeLink:
    """A driver with one row, which notes what it gets."""

    def __init__(self) -> None:
        self.tasks = [Task("a-lease", 60.0, "row 1", {})]
        self.sent: list[str] = []
        self.ending: dict[str, Any] = {}

    async def take(self, worker: str) -> Task:
        if not self.tasks:
            raise AllEnded
        return self.tasks.pop()

    async def send(self, task: Task, file: Path, path: str) -> None:
        assert file.is_file()
        self.sent.append(path)

    async def end(self, task: Task, ending: dict[str, Any]) -> None:
        self.ending = json.loads(json.dumps(ending))

    async def insist(self, request: Callable[[], Awaitable[Any]]) -> Any:
        return await request()


class OneFileEngine:
    """Saves one file, whose name Windows cannot write."""

    chunks = (1, 1)

    def run(self, task: Task, folder: Path) -> Ending:
        folder.mkdir(parents=True)
        (folder / "what: a clip?.mp4").touch()
        return Ending(1.0, (SavedFile("video", "what: a clip?.mp4"),))

    def interrupt(self) -> None:
        raise AssertionError("nobody takes the row")


def test_a_worker_sends_no_name_that_its_driver_refuses(tmp_path: Path) -> None:
    """The refusal ended the worker, and then the next one that took the row."""
    link = FakeLink()
    with loop_thread() as loop:
        worker = Worker(
            "w", cast("Link", link), OneFileEngine(), loop, Console(quiet=True), tmp_path
        )
        assert worker.run() == 1
    assert link.sent == ["what_ a clip_.mp4"]
    assert read_ending(link.ending).files == (SavedFile("video", "what_ a clip_.mp4"),)
