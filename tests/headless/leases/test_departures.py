"""What is left of workers that go: no row, and nothing in the driver's memory."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from pathlib import Path

import pytest
from aiohttp import web
from rich.console import Console

from longtake.headless.batch.display import Display
from longtake.headless.batch.record import WAITING, Records
from longtake.headless.leases.driver.service import LeaseService
from longtake.headless.leases.queue import Ending, Lease, LeaseQueue
from longtake.headless.leases.second_tries import SecondTries
from longtake.headless.leases.staging import Staging
from longtake.tests.support.headless.lease_batches import KEY, LIMIT_S, SHOWN, row_of

ASKS = json.dumps({"worker": "w"}).encode()


async def ask_and_leave(port: int, leased: threading.Event) -> None:
    """Ask for a row, and break the connection off while the driver leases one."""
    _, writer = await asyncio.open_connection("127.0.0.1", port)
    shown = "".join(f"{name}: {value}\r\n" for name, value in SHOWN.items())
    head = f"POST /lease HTTP/1.1\r\nHost: x\r\n{shown}Content-Length: {len(ASKS)}\r\n\r\n"
    writer.write(head.encode() + ASKS)
    await asyncio.to_thread(leased.wait, LIMIT_S)
    writer.close()
    await writer.wait_closed()


def test_a_row_that_nobody_hears_of_goes_back_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    leased, noticed = threading.Event(), threading.Event()
    take = LeaseQueue.take

    def take_slowly(queue: LeaseQueue, worker: str, now: float) -> Lease | None:
        lease = take(queue, worker, now)
        leased.set()
        assert noticed.wait(LIMIT_S)
        return lease

    monkeypatch.setattr(LeaseQueue, "take", take_slowly)

    async def drive() -> LeaseQueue:
        records, row = Records(tmp_path), row_of(1)
        records.start([row.record])
        queue = LeaseQueue([row], records, 1000, 0)
        display = Display(Console(quiet=True), records.rows)
        service = LeaseService(queue, Staging(tmp_path), display, KEY)
        runner = web.AppRunner(service.application())
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        await ask_and_leave(runner.addresses[0][1], leased)
        assert runner.server is not None
        [connection] = runner.server.connections
        while connection.transport is not None:
            await asyncio.sleep(0)
        noticed.set()
        await runner.cleanup()  # after the request's end
        return queue

    queue = asyncio.run(asyncio.wait_for(drive(), LIMIT_S))
    records = Records(tmp_path)
    records.resume()
    assert records.rows[0].state == WAITING
    monkeypatch.undo()
    lease = queue.take("other", 1)
    assert lease is not None and lease.number == 2


def test_the_driver_forgets_processes_that_have_gone(tmp_path: Path) -> None:
    """Thousands of workers of a cluster may come and go during one batch."""
    records, rows = Records(tmp_path), [row_of(number) for number in range(1, 31)]
    records.start([row.record for row in rows])
    queue = LeaseQueue(rows, records, 1000, time.monotonic())
    service = LeaseService(
        queue, Staging(tmp_path), Display(Console(quiet=True), records.rows), KEY
    )
    steady = service._lease_for("steady", "w")
    assert steady is not None
    for number in range(25):
        lease = service._lease_for(f"process {number}", f"worker {number}")
        assert lease is not None and queue.end(lease.id, Ending(1.0), time.monotonic())
        assert queue.renew(steady.id, time.monotonic())
    assert len(service._given) <= 2, "leases in force, and the last one"
    assert service._lease_for("steady", "w") is steady, "an answer that was lost is given again"

    now = time.monotonic()
    service.heard.update({"gone": now - 2001, "there": now + 600})
    asyncio.run(service.expire())
    assert [*service.heard] == ["there"]


def test_second_tries_forget_workers_that_have_gone() -> None:
    tries = SecondTries(10)
    for number in range(25):
        tries.hear(f"worker {number}", number)
    assert len(tries._heard) == 10 and tries.has_other("worker 24", 24)
