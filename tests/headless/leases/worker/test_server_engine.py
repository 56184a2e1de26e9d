"""A worker whose rows run on a ComfyUI server beside it."""

from __future__ import annotations

import uuid
from collections.abc import Coroutine, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from longtake.benchmarks._attack.instant_comfyui import WORKFLOW
from longtake.errors import LongtakeError
from longtake.headless.batch.record import SavedFile
from longtake.headless.batch.servers import watch
from longtake.headless.batch.servers.address import server_url
from longtake.headless.batch.servers.client import Client
from longtake.headless.leases.worker.engine import ServerEngine
from longtake.headless.leases.worker.link import Task
from longtake.headless.leases.worker.loop import LoopThread, loop_thread
from longtake.tests.support.fake_comfyui import FakeComfyUI
from longtake.tests.support.stream.live_servers import wait_until


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeComfyUI]:
    monkeypatch.setattr(watch, "POLL_S", 0.02)
    fake = FakeComfyUI()
    yield fake
    if fake.alive:
        fake.stop()


@pytest.fixture
def engine(server: FakeComfyUI) -> Iterator[ServerEngine]:
    async def opened() -> aiohttp.ClientSession:
        return aiohttp.ClientSession()

    with loop_thread() as loop:
        session = loop.wait(opened())
        yield engine_of(server, session, loop)
        loop.wait(session.close())


def engine_of(
    server: FakeComfyUI, session: aiohttp.ClientSession, loop: LoopThread
) -> ServerEngine:
    client = Client(session, server_url(server.url), str(uuid.uuid4()))
    return ServerEngine(client, loop, patience_s=0.2)


def task(seed: int, text: str = "a") -> Task:
    inputs = {**WORKFLOW["1"]["inputs"], "seed": seed, "text": text}
    workflow = {**WORKFLOW, "1": {"class_type": "Count", "inputs": inputs}}
    return Task("an-id", 60.0, f"row {seed}", workflow)


def test_the_servers_files_are_in_the_rows_folder(engine: ServerEngine, tmp_path: Path) -> None:
    ending = engine.run(task(3), tmp_path / "row")
    assert ending.error is None and ending.seconds == 2.5
    assert ending.files == (SavedFile("frames", "pic_3.png"),)
    assert (tmp_path / "row" / "pic_3.png").stat().st_size > 0
    assert dict(ending.report)["frames"] == 33


def test_a_row_that_fails_there_ends_with_its_reason(engine: ServerEngine, tmp_path: Path) -> None:
    ending = engine.run(task(3, "fail"), tmp_path / "row")
    assert ending.error == "Node 1 (Count) failed with ValueError: no such thing"


def test_a_server_that_is_away_ends_the_worker_in_a_sentence(
    engine: ServerEngine, server: FakeComfyUI, tmp_path: Path
) -> None:
    server.stop()
    with pytest.raises(LongtakeError, match="cannot be used: "):
        engine.run(task(3), tmp_path / "row")


class LoopUntilCtrlC:
    """A loop whose first wait ends with Ctrl-C, once the server runs the row."""

    def __init__(self, loop: LoopThread, server: FakeComfyUI, *, is_there: bool) -> None:
        self._loop, self._server, self._is_there = loop, server, is_there
        self._interrupted = False

    def wait(self, work: Coroutine[Any, Any, Any]) -> Any:
        if self._interrupted:
            return self._loop.wait(work)
        self._interrupted = True
        future = self._loop.start(work)
        wait_until(lambda: self._server.running)
        future.cancel()
        if not self._is_there:
            self._server.stop()
        raise KeyboardInterrupt


@pytest.mark.parametrize("is_there", [True, False])
def test_ctrl_c_takes_the_row_from_the_server(
    engine: ServerEngine, server: FakeComfyUI, tmp_path: Path, *, is_there: bool
) -> None:
    server.hold.clear()
    engine.loop = LoopUntilCtrlC(engine.loop, server, is_there=is_there)  # type: ignore[assignment]
    with pytest.raises(KeyboardInterrupt):
        engine.run(task(3), tmp_path / "row")
    assert server.running is None and len(server.dropped) == is_there
