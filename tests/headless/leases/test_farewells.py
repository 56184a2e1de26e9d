"""The end of a batch: the driver stays until each worker that is there knows it."""

from __future__ import annotations

import asyncio
from pathlib import Path

import aiohttp
import pytest
from yarl import URL

from longtake.headless.leases.driver import driver, service
from longtake.headless.leases.messages import ending_message
from longtake.headless.leases.queue import Ending
from longtake.headless.leases.worker.link import AllEnded, Link
from longtake.headless.leases.worker.loop import LoopThread
from longtake.tests.support.headless.lease_batches import KEY, Batch, Clock

pytestmark = pytest.mark.usefixtures("quickly")
Requests = tuple[LoopThread, aiohttp.ClientSession]
SOME_TICKS_S = 0.3
ENDED = ending_message(Ending(1.5))


def test_a_worker_whose_row_was_long_is_told_that_it_was_the_last(
    tmp_path: Path, requests: Requests, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock()
    for module in (driver, service):
        monkeypatch.setattr(module, "time", clock)
    loop, session = requests
    batch = begin(tmp_path / "out")
    worker = Link(session, URL(batch.url), KEY, 1)

    async def work() -> None:
        task = await worker.take("w")
        assert task is not None
        for _ in range(4):  # longer than two leases since it asked for the row
            clock.end_leases()
            await worker.renew(task, 1, 2)
        await worker.end(task, ENDED)
        await asyncio.sleep(SOME_TICKS_S)
        with pytest.raises(AllEnded):
            await worker.take("w")

    loop.wait(work())
    batch.join()


def test_each_of_two_workers_of_one_name_is_told(tmp_path: Path, requests: Requests) -> None:
    loop, session = requests
    batch = begin(tmp_path / "out")
    busy, idle = (Link(session, URL(batch.url), KEY, 1) for _ in range(2))

    async def work() -> None:
        task = await busy.take("w")
        assert task is not None
        assert await idle.take("w") is None
        await busy.end(task, ENDED)
        with pytest.raises(AllEnded):
            await busy.take("w")
        await asyncio.sleep(SOME_TICKS_S)
        with pytest.raises(AllEnded):
            await idle.take("w")

    loop.wait(work())
    batch.join()


def begin(out: Path) -> Batch:
    """Start a batch of one row, whose leases last longer than the clock is put forward."""
    out.mkdir()
    batch = Batch(out, 1, lease_s=1000)
    batch.start()
    return batch
