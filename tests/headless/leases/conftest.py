"""A driver of leased rows and workers that join it, for the tests of this folder."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from rich.console import Console
from yarl import URL

from longtake.headless.leases.driver import driver
from longtake.headless.leases.worker import link
from longtake.headless.leases.worker.link import Link
from longtake.headless.leases.worker.loop import LoopThread, loop_thread
from longtake.headless.leases.worker.worker import Worker
from longtake.tests.support.headless.lease_batches import KEY, Batch, FakeEngine


@pytest.fixture
def quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let drivers and workers look often."""
    monkeypatch.setattr(driver, "TICK_S", 0.02)
    monkeypatch.setattr(link, "FIRST_PAUSE_S", 0.02)
    monkeypatch.setattr(link, "MAX_PAUSE_S", 0.05)


@pytest.fixture
def requests() -> Iterator[tuple[LoopThread, aiohttp.ClientSession]]:
    async def opened() -> aiohttp.ClientSession:
        return aiohttp.ClientSession()

    with loop_thread() as loop:
        session = loop.wait(opened())
        yield loop, session
        loop.wait(session.close())


@pytest.fixture
def join(
    requests: tuple[LoopThread, aiohttp.ClientSession], tmp_path: Path
) -> Callable[..., Worker]:
    """Return a function that makes a worker of a batch."""
    loop, session = requests

    def make(batch: Batch, engine: FakeEngine, name: str = "w", **how: Any) -> Worker:
        to_driver = Link(session, URL(batch.url), how.pop("key", KEY), how.pop("patience_s", 30))
        rows = how.pop("rows", tmp_path / f"work-{name}")
        return Worker(name, to_driver, engine, loop, Console(quiet=True), rows, idle_s=0.02, **how)

    return make


@pytest.fixture
def batch(tmp_path: Path) -> Iterator[Batch]:
    made = Batch(tmp_path / "out", 8)
    made.out.mkdir()
    made.start()
    yield made
    made.stop()
