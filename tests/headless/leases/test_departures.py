"""A worker that is stopped while it asks for a row leaves the row to the others."""

from __future__ import annotations

import asyncio
import json
import threading
from pathlib import Path

import pytest
from aiohttp import web
from rich.console import Console

from longtake.headless.batch.display import Display
from longtake.headless.batch.record import WAITING, Records
from longtake.headless.leases.driver.service import LeaseService
from longtake.headless.leases.queue import Lease, LeaseQueue
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
