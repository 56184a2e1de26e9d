"""A driver and workers over real requests: joining, leaving, dying, a new driver, bad requests."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from rich.console import Console
from yarl import URL

from longtake.errors import LongtakeError, StorageError
from longtake.headless.batch.record import DONE, FAILED, Record, Records, SavedFile
from longtake.headless.batch.row import Row
from longtake.headless.leases import driver, link
from longtake.headless.leases.driver import run_on_workers
from longtake.headless.leases.key import header
from longtake.headless.leases.link import Link, Task
from longtake.headless.leases.loop import LoopThread, loop_thread
from longtake.headless.leases.place import Place
from longtake.headless.leases.queue import Ending
from longtake.headless.leases.staging import FOLDER
from longtake.headless.leases.worker import Worker
from longtake.tests.support.server_process import free_port

KEY = "a-key-of-this-test-0123"
LIMIT_S = 60


@pytest.fixture(autouse=True)
def _quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(driver, "TICK_S", 0.02)
    monkeypatch.setattr(link, "FIRST_PAUSE_S", 0.02)
    monkeypatch.setattr(link, "MAX_PAUSE_S", 0.05)


@dataclass(slots=True)
class Batch:
    """A driver of rows in a thread; `stop` ends it as a kill does, between two changes."""

    out: Path
    count: int
    port: int = field(default_factory=free_port)
    lease_s: float = 30.0
    _loop: asyncio.AbstractEventLoop | None = None
    _task: asyncio.Task[None] | None = None
    _thread: threading.Thread | None = None

    def start(self) -> None:
        opened = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(opened,), daemon=True)
        self._thread.start()
        assert opened.wait(LIMIT_S)

    def stop(self) -> None:
        assert self._loop and self._task and self._thread
        with suppress(RuntimeError):  # it has ended by itself
            self._loop.call_soon_threadsafe(self._task.cancel)
        self.join()

    def join(self) -> None:
        assert self._thread
        self._thread.join(LIMIT_S)
        assert not self._thread.is_alive()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def records(self) -> list[Record]:
        records = Records(self.out)
        records.resume()
        return records.rows

    def _run(self, opened: threading.Event) -> None:
        async def serve() -> None:
            self._loop, self._task = asyncio.get_running_loop(), asyncio.current_task()
            records, rows = Records(self.out), [_row(n + 1) for n in range(self.count)]
            records.resume()
            place = Place("127.0.0.1", self.port, self.lease_s)
            console = Console(quiet=True)
            with suppress(asyncio.CancelledError):  # this is how `stop` ends it
                await run_on_workers(rows, records, place, KEY, console, lambda _: opened.set())

        asyncio.run(serve())


def _row(number: int) -> Row:
    record = Record(number, f"key{number}", "w.json", {}, f"{number:03}-w")
    return Row(record, lambda: {"1": {"class_type": "Count", "inputs": {"seed": number}}})


class FakeEngine:
    """Writes a picture of the seed; `act` happens within each run."""

    def __init__(self, act: Callable[[int], object] = lambda seed: None, error: str = "") -> None:
        self.chunks = (1, 2)
        self.seeds: list[int] = []
        self.stopped = threading.Event()
        self._act, self._error = act, error

    def run(self, task: Task, folder: Path) -> Ending:
        seed: int = task.workflow["1"]["inputs"]["seed"]
        self.seeds.append(seed)
        self._act(seed)
        if self.stopped.is_set():
            self.stopped.clear()
            raise KeyboardInterrupt
        (folder / "frames").mkdir(parents=True)
        (folder / "frames" / "a.png").write_text(f"picture of {seed}")
        if self._error or seed == 13:
            return Ending(1.5, error=self._error or "seed 13 brings bad luck")
        return Ending(1.5, (SavedFile("frames", "frames/a.png"),), (("frames", 33),))

    def interrupt(self) -> None:
        self.stopped.set()


@pytest.fixture
def requests() -> Iterator[tuple[LoopThread, aiohttp.ClientSession]]:
    async def opened() -> aiohttp.ClientSession:
        return aiohttp.ClientSession()

    with loop_thread() as loop:
        session = loop.wait(opened())
        yield loop, session
        loop.wait(session.close())


Join = Callable[..., Worker]


@pytest.fixture
def join(requests: tuple[LoopThread, aiohttp.ClientSession], tmp_path: Path) -> Join:
    """Return a function that makes a worker of a batch."""
    loop, session = requests

    def make(batch: Batch, engine: FakeEngine, name: str = "w", **how: Any) -> Worker:
        to_driver = Link(session, URL(batch.url), how.pop("key", KEY), how.pop("patience_s", 30))
        rows = how.pop("rows", tmp_path / f"work-{name}")
        return Worker(
            name, to_driver, engine, loop, Console(quiet=True), rows, idle_s=0.02, **how
        )

    return make


@pytest.fixture
def batch(tmp_path: Path) -> Iterator[Batch]:
    made = Batch(tmp_path / "out", 8)
    made.out.mkdir()
    made.start()
    yield made
    made.stop()


def check_whole(batch: Batch) -> None:
    """Check that every row is done with its own picture, and nothing is left over."""
    for record in batch.records():
        assert record.state == DONE
        assert [file.path for file in record.files] == [f"{record.folder}/frames/a.png"]
        text = (batch.out / record.files[0].path).read_text()
        assert text == f"picture of {record.number}"
    assert list((batch.out / FOLDER).glob("*")) == []


def test_rows_are_shared_and_each_runs_once(batch: Batch, join: Join) -> None:
    engines = [FakeEngine(lambda _: time.sleep(0.05)) for _ in range(3)]
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


def test_what_one_worker_cannot_run_another_does(batch: Batch, join: Join) -> None:
    begun = threading.Event()
    poor = FakeEngine(lambda _: begun.wait(LIMIT_S), error="no such model")
    rich = FakeEngine(lambda _: begun.set())
    with ThreadPoolExecutor(2) as threads:
        list(threads.map(Worker.run, [join(batch, poor, "poor"), join(batch, rich, "rich")]))
    batch.join()
    check_whole(batch)


def test_the_row_of_a_dead_worker_goes_to_another(tmp_path: Path, join: Join) -> None:
    batch = Batch(tmp_path / "out", 3, lease_s=0.5)
    batch.out.mkdir()
    batch.start()
    dead = join(batch, FakeEngine(), "dead")
    lost = dead.loop.wait(dead.link.take("dead"))
    assert lost is not None
    engine = FakeEngine()
    assert join(batch, engine, "alive").run() == 3
    batch.join()
    assert engine.seeds[-1] == 1
    check_whole(batch)
    assert [record.attempt for record in batch.records()] == [2, 1, 1]


def test_a_worker_that_comes_too_late_changes_nothing(tmp_path: Path, join: Join) -> None:
    batch = Batch(tmp_path / "out", 1, lease_s=0.3)
    batch.out.mkdir()
    batch.start()
    late = join(batch, FakeEngine(), "late")
    task = late.loop.wait(late.link.take("late"))
    assert task is not None
    time.sleep(0.4)
    other = join(batch, FakeEngine(), "other")
    held = other.loop.wait(other.link.take("other"))
    assert held is not None
    stray = tmp_path / "stray"
    stray.write_text("of the old lease")
    requests = (
        late.link.send(task, stray, "a.png"),
        late.link.end(task, {"seconds": 1, "files": []}),
        late.link.renew(task, 1, 2),
    )
    for request in requests:
        with pytest.raises(link.LeaseEnded):
            late.loop.wait(request)
    assert list(batch.out.rglob("a.png")) == []
    other.loop.wait(other.link.release(held))
    assert join(batch, FakeEngine(), "third").run() == 1
    batch.join()
    check_whole(batch)


def test_a_worker_stops_a_row_that_another_has_taken(
    tmp_path: Path, join: Join, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch = Batch(tmp_path / "out", 1, lease_s=0.6)
    batch.out.mkdir()
    batch.start()
    slow = FakeEngine()
    slow._act = lambda _: slow.stopped.wait(LIMIT_S) if len(slow.seeds) == 1 else None
    renew = Link.renew

    async def unheard(self: Link, task: Task, done: int | None, total: int | None) -> None:
        await asyncio.sleep(0.7)  # longer than the lease
        await renew(self, task, done, total)

    monkeypatch.setattr(Link, "renew", unheard)
    assert join(batch, slow).run() == 1  # it lost the row, and then took it again
    batch.join()
    assert slow.seeds == [1, 1]
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
    first._act = lambda seed: first.interrupt() if seed == 3 else None
    with pytest.raises(KeyboardInterrupt):
        join(batch, first, "first").run()
    second = FakeEngine()
    assert join(batch, second, "second").run() == 6
    batch.join()
    assert second.seeds[0] == 3
    assert [record.losses for record in batch.records()] == [0] * 8
    check_whole(batch)


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

    status, text = loop.wait(ask("POST", "/lease", b'{"worker": "w"}', header(KEY)))
    lease = json.loads(text)["lease"]
    assert status == 200
    for method, path, data, expected in BAD:
        where = path.replace("ID", lease)
        assert loop.wait(ask(method, where, data, {}))[0] == 401, where
        status, text = loop.wait(ask(method, where, data, header(KEY)))
        assert (status, KEY in text, "Traceback" in text) == (expected, False, False), (where, text)
    assert sorted(path.name for path in batch.out.rglob("*") if path.is_file()) == ["batch.jsonl"]
