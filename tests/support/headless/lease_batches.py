"""A driver of leased rows in a thread, workers that make pictures at once, and their clock."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console

from longtake.headless.batch.record import DONE, Record, Records, SavedFile
from longtake.headless.batch.row import Row
from longtake.headless.leases.driver.driver import run_on_workers
from longtake.headless.leases.driver.place import Place
from longtake.headless.leases.key import header
from longtake.headless.leases.queue import Ending
from longtake.headless.leases.staging import FOLDER
from longtake.headless.leases.version import own_version, stated
from longtake.headless.leases.worker.link import Task
from longtake.tests.support.server_process import free_port

KEY = "a-key-of-this-test-0123"
SHOWN = {**header(KEY), **stated(own_version())}
"""What a worker shows with each request."""
LIMIT_S = 60


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
            records, rows = Records(self.out), [row_of(n + 1) for n in range(self.count)]
            records.resume()
            place = Place("127.0.0.1", self.port, self.lease_s)
            console = Console(quiet=True)
            with suppress(asyncio.CancelledError):  # this is how `stop` ends it
                await run_on_workers(rows, records, place, KEY, console, lambda _: opened.set())

        asyncio.run(serve())


def row_of(number: int) -> Row:
    record = Record(number, f"key{number}", "w.json", {}, f"{number:03}-w")
    return Row(record, lambda: {"1": {"class_type": "Count", "inputs": {"seed": number}}})


class FakeEngine:
    """Writes a picture of the seed; `act` happens within each run."""

    def __init__(self, act: Callable[[int], object] = lambda seed: None, error: str = "") -> None:
        self.chunks = (1, 2)
        self.seeds: list[int] = []
        self.stopped = threading.Event()
        self.act, self._error = act, error

    def run(self, task: Task, folder: Path) -> Ending:
        seed: int = task.workflow["1"]["inputs"]["seed"]
        self.seeds.append(seed)
        self.act(seed)
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


def check_whole(batch: Batch) -> None:
    """Check that every row is done with its own picture, and nothing is left over."""
    for record in batch.records():
        assert record.state == DONE
        assert [file.path for file in record.files] == [f"{record.folder}/frames/a.png"]
        text = (batch.out / record.files[0].path).read_text()
        assert text == f"picture of {record.number}"
    assert not (batch.out / FOLDER).exists()


class Clock:
    """The driver's clock, which a test may put forward: leases then end at once, and only then."""

    def __init__(self) -> None:
        self._ahead_s = 0.0

    def monotonic(self) -> float:
        """Seconds, as of `time.monotonic`."""
        return time.monotonic() + self._ahead_s

    def end_leases(self) -> None:
        """Let ten minutes pass."""
        self._ahead_s += 600.0
