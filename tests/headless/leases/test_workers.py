"""A driver and workers over real requests: joining, leaving, dying, a new driver, bad requests."""

from __future__ import annotations

import io
import json
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from rich.console import Console
from yarl import URL

from longtake.errors import LongtakeError, StorageError
from longtake.headless.batch.record import DONE, FAILED, Record, Records, SavedFile
from longtake.headless.leases.queue import Ending
from longtake.headless.leases.staging import FOLDER
from longtake.headless.leases.worker.joining import Joining
from longtake.headless.leases.worker.link import Link, Task
from longtake.headless.leases.worker.loop import LoopThread
from longtake.headless.leases.worker.worker import Worker
from longtake.tests.support.headless.lease_batches import (
    KEY,
    LIMIT_S,
    SHOWN,
    Batch,
    FakeEngine,
    check_whole,
)

pytestmark = pytest.mark.usefixtures("quickly")
Join = Callable[..., Worker]


def test_rows_are_shared_and_each_runs_once(batch: Batch, join: Join) -> None:
    both = threading.Barrier(2)  # the first two rows run at the same time

    def meet(seed: int) -> None:
        if seed <= 2:
            both.wait(LIMIT_S)

    engines = [FakeEngine(meet) for _ in range(3)]
    with ThreadPoolExecutor(3) as threads:
        workers = [join(batch, engine, f"w{n}") for n, engine in enumerate(engines)]
        ended = list(threads.map(lambda one: one.run(), workers))
    batch.join()
    assert sum(ended) == 8
    assert sorted(seed for engine in engines for seed in engine.seeds) == list(range(1, 9))
    assert sum(bool(engine.seeds) for engine in engines) > 1
    check_whole(batch)
    report = batch.records()[0].report
    assert report == {"frames": 33}


@pytest.mark.parametrize("listed", ["gone.png", "/gone?.png", "../outside.png"])
def test_a_file_that_is_not_in_the_rows_folder_fails_its_row_alone(
    batch: Batch, join: Join, tmp_path: Path, listed: str
) -> None:
    class Elsewhere(FakeEngine):
        def run(self, task: Task, folder: Path) -> Ending:
            ending = super().run(task, folder)
            (folder.parent / "outside.png").touch()
            files = (SavedFile("frames", listed),)
            return replace(ending, files=files) if self.seeds[-1] == 2 else ending

    assert join(batch, Elsewhere()).run() == 8
    failed = [record for record in batch.records() if record.state == FAILED]
    assert [record.number for record in failed] == [2]
    assert failed[0].error == (
        f"a node lists the file {listed}, which is not in the row's output folder"
    )
    assert (tmp_path / "work-w" / "outside.png").exists(), "it was not moved"


def test_what_one_worker_cannot_run_another_does(batch: Batch, join: Join) -> None:
    begun = threading.Event()
    poor = FakeEngine(lambda _: begun.wait(LIMIT_S), error="no such model")
    rich = FakeEngine(lambda _: begun.set())
    with ThreadPoolExecutor(2) as threads:
        list(threads.map(Worker.run, [join(batch, poor, "poor"), join(batch, rich, "rich")]))
    batch.join()
    check_whole(batch)


def test_a_new_driver_goes_on_with_the_workers_of_the_last(batch: Batch, join: Join) -> None:
    begun, resumed = threading.Event(), threading.Event()

    def pause_at_four(seed: int) -> None:
        if seed == 4:
            begun.set()
            assert resumed.wait(LIMIT_S)

    engine = FakeEngine(pause_at_four)
    with ThreadPoolExecutor(1) as threads:
        running = threads.submit(join(batch, engine).run)
        assert begun.wait(LIMIT_S)
        batch.stop()
        resumed.set()
        time.sleep(0.2)
        batch.start()
        assert running.result(LIMIT_S) == 8
    batch.join()
    assert engine.seeds == list(range(1, 9))
    check_whole(batch)


def test_files_of_a_shared_folder_are_not_sent(
    batch: Batch, join: Join, monkeypatch: pytest.MonkeyPatch
) -> None:
    shared = join(batch, FakeEngine(), rows=batch.out / FOLDER, is_shared=True)

    async def refuse(*_: Any) -> None:
        raise AssertionError("a file was sent")

    monkeypatch.setattr(Link, "send", refuse)
    assert shared.run() == 8
    batch.join()
    check_whole(batch)


def test_a_worker_that_shares_another_folder_is_told_and_gives_its_row_back(
    batch: Batch, join: Join, tmp_path: Path
) -> None:
    engine = FakeEngine()
    stray = join(batch, engine, rows=tmp_path / "elsewhere" / FOLDER, is_shared=True)
    with pytest.raises(LongtakeError, match=r"elsewhere is not the driver's --out: it has no ba"):
        stray.run()
    assert engine.seeds == []
    assert join(batch, FakeEngine(), "other").run() == 8
    batch.join()
    assert [record.losses for record in batch.records()] == [0] * 8


def test_a_row_that_fails_says_why_and_the_others_go_on(tmp_path: Path, join: Join) -> None:
    batch = Batch(tmp_path / "out", 14)
    batch.out.mkdir()
    batch.start()
    assert join(batch, FakeEngine()).run() == 14
    batch.join()
    states = {record.number: (record.state, record.error) for record in batch.records()}
    assert states.pop(13) == (FAILED, "seed 13 brings bad luck")
    assert set(states.values()) == {(DONE, None)}


def test_an_interrupted_worker_gives_its_row_back(batch: Batch, join: Join) -> None:
    first = FakeEngine()
    first.act = lambda seed: first.interrupt() if seed == 3 else None
    with pytest.raises(KeyboardInterrupt):
        join(batch, first, "first").run()
    second = FakeEngine()
    assert join(batch, second, "second").run() == 6
    batch.join()
    assert second.seeds[0] == 3
    assert [record.losses for record in batch.records()] == [0] * 8
    check_whole(batch)


@pytest.mark.parametrize(
    ("store", "server", "outlook"),
    [
        ("shots", None, "Whoever takes it goes on after its last finished chunk."),
        (None, None, "makes it from the beginning, since this worker has no --store."),
        (None, "127.0.0.1:1", "went back to the driver."),
    ],
)
def test_a_worker_says_what_becomes_of_the_row_that_it_gives_back(
    batch: Batch, join: Join, store: str | None, server: str | None, outlook: str, tmp_path: Path
) -> None:
    joining = Joining(
        URL(batch.url), KEY, "w", 1.0, tmp_path, server=server and URL(server), store=store
    )  # fmt: skip
    engine, shown = FakeEngine(), Console(file=io.StringIO(), width=500)
    engine.act = lambda _: engine.interrupt()
    worker = replace(join(batch, engine), console=shown, outlook=joining.outlook)
    with pytest.raises(KeyboardInterrupt):
        worker.run()
    assert outlook in shown.file.getvalue().splitlines()[-1]  # type: ignore[attr-defined]


def test_a_worker_that_cannot_give_its_row_back_says_when_another_gets_it(
    tmp_path: Path, join: Join
) -> None:
    batch = Batch(tmp_path / "out", 1)
    batch.out.mkdir()
    batch.start()
    engine, shown = FakeEngine(), Console(file=io.StringIO(), width=500)

    def leave(_: int) -> None:
        batch.stop()
        engine.interrupt()

    engine.act = leave
    with pytest.raises(KeyboardInterrupt):
        replace(join(batch, engine), console=shown).run()
    said = shown.file.getvalue()  # type: ignore[attr-defined]
    assert "goes to another after 30 s without a word of this worker." in said


def test_a_driver_whose_disk_stays_full_is_not_called_silent(
    batch: Batch, join: Join, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: Records, record: Record) -> None:
        raise StorageError("the disk is full; free some space.")

    monkeypatch.setattr(Records, "save", refuse)
    with pytest.raises(LongtakeError, match=r"has refused for 0.1 s: the disk is full; free some"):
        join(batch, FakeEngine(), patience_s=0.1).run()


def test_a_row_that_the_drivers_full_disk_keeps_is_told_so(
    batch: Batch, join: Join, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: Records, record: Record) -> None:
        raise StorageError("The disk is full; free some space.")

    def leave(_: int) -> None:
        monkeypatch.setattr(Records, "save", refuse)
        engine.interrupt()

    engine, shown = FakeEngine(), Console(file=io.StringIO(), width=500)
    engine.act = leave
    with pytest.raises(KeyboardInterrupt):
        replace(join(batch, engine), console=shown).run()
    said = shown.file.getvalue().splitlines()[-1]  # type: ignore[attr-defined]
    assert said.startswith("The driver refuses: The disk is full; free some space. row 1 (")
    assert said.endswith(") goes to another after 30 s without a word of this worker.")


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"key": "another-key-of-this-test"}, "has another key; check --key-file. row 1 ("),
        ({"version": "0.0.1"}, "The driver refuses: "),
    ],
)
def test_an_interrupted_worker_whose_row_is_refused_is_interrupted_still(
    batch: Batch, join: Join, change: dict[str, str], why: str
) -> None:
    """Its exit code is that of Ctrl-C, and the row waits for its lease to end."""

    def leave(_: int) -> None:
        for name, value in change.items():
            setattr(worker.link, name, value)
        engine.interrupt()

    engine, shown = FakeEngine(), Console(file=io.StringIO(), width=500)
    engine.act = leave
    worker = replace(join(batch, engine), console=shown)
    with pytest.raises(KeyboardInterrupt):
        worker.run()
    said = shown.file.getvalue().splitlines()[-1]  # type: ignore[attr-defined]
    assert why in said
    assert said.endswith(") goes to another after 30 s without a word of this worker.")


def test_a_driver_that_is_away_for_long_is_said(tmp_path: Path, join: Join) -> None:
    nobody = Batch(tmp_path / "out", 1)
    with pytest.raises(LongtakeError, match="does not answer .*is it running"):
        join(nobody, FakeEngine(), patience_s=0.1).run()


def test_a_full_disk_of_the_driver_only_makes_workers_wait(
    batch: Batch, join: Join, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every record is refused twice: that a row begins, and that it is done."""
    refusals: Counter[tuple[int, str]] = Counter()
    save = Records.save

    def refuse_twice(self: Records, record: Record) -> None:
        key = record.number, record.state
        refusals[key] += 1
        if refusals[key] <= 2:
            raise StorageError("the disk is full")
        save(self, record)

    monkeypatch.setattr(Records, "save", refuse_twice)
    engine = FakeEngine()
    assert join(batch, engine).run() == 8
    batch.join()
    assert engine.seeds == list(range(1, 9))
    check_whole(batch)


def test_another_key_opens_nothing(batch: Batch, join: Join) -> None:
    with pytest.raises(LongtakeError, match="has another key; check --key-file"):
        join(batch, FakeEngine(), key="another-key-0123456").run()


def ending_of(**said: object) -> bytes:
    return json.dumps({"seconds": 1, "files": [], **said}).encode()


BAD = [
    ("POST", "/lease", b"[3]", 400),
    ("POST", "/lease", b"\xff", 400),
    ("POST", "/lease", json.dumps({"worker": "../x"}).encode(), 400),
    ("POST", "/lease/ID/end", b"{}", 400),
    ("POST", "/lease/ID/end", ending_of(seconds=-1), 400),
    ("POST", "/lease/ID/end", ending_of(seconds=float("nan")), 400),
    ("POST", "/lease/ID/end", ending_of(error=3), 400),
    ("POST", "/lease/ID/end", ending_of(files=[{"role": "video", "path": "../a"}]), 400),
    ("POST", "/lease/ID/end", ending_of(files=[{"role": "video", "path": "a"}]), 400),
    ("PUT", "/lease/ID/files/..%2F..%2Fa", b"x", 400),
    ("PUT", "/lease/ID/files/.hidden", b"x", 400),
    ("PUT", "/lease/ID/files/a/NUL.png", b"x", 400),
    ("PUT", "/lease/ID/files/com1", b"x", 400),
    ("PUT", "/lease/unknown/files/a", b"x", 409),
    ("POST", "/lease/unknown/renew", b"{}", 409),
    ("GET", "/lease", b"", 405),
]  # fmt: skip


def test_bad_requests_are_refused_and_write_nothing(
    batch: Batch, requests: tuple[LoopThread, aiohttp.ClientSession]
) -> None:
    loop, session = requests

    async def ask(method: str, path: str, data: bytes, shown: dict[str, str]) -> tuple[int, str]:
        url = URL(batch.url + path, encoded=True)
        async with session.request(method, url, data=data, headers=shown) as answer:
            return answer.status, await answer.text()

    status, text = loop.wait(ask("POST", "/lease", b'{"worker": "w"}', SHOWN))
    lease = json.loads(text)["lease"]
    assert status == 200
    for method, path, data, expected in BAD:
        where = path.replace("ID", lease)
        assert loop.wait(ask(method, where, data, {}))[0] == 401, where
        status, text = loop.wait(ask(method, where, data, SHOWN))
        assert (status, KEY in text, "Traceback" in text) == (expected, False, False), (where, text)
    assert sorted(path.name for path in batch.out.rglob("*") if path.is_file()) == ["batch.jsonl"]
