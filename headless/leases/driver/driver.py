"""A batch whose rows are run by workers that join: the driver's side."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

from aiohttp import web
from rich.console import Console
from rich.markup import escape

from ....errors import BadInput
from ...batch.display import open_display
from ...batch.record import QUEUED, Record, Records
from ...batch.row import Row
from ...request_log import request_logger
from ..queue import LeaseQueue
from ..staging import Staging
from .place import Place
from .service import LeaseService

TICK_S = 0.5
FAREWELL_S = 10.0
"""After the last row, workers that wait for a row are told within this time."""


async def run_on_workers(
    rows: Sequence[Row],
    records: Records,
    place: Place,
    key: str,
    console: Console,
    on_open: Callable[[str], Callable[[], None] | None] = lambda _: None,
) -> None:
    """Serve leases until all rows have ended.

    `on_open` gets the address. It may return a check of the workers that it started, which raises
    LongtakeError where no worker can run the rows that are left.
    """
    records.merge_rows(row.record for row in rows)
    staging = Staging(records.out)
    with open_display(console, records.rows) as display:
        queue = LeaseQueue(rows, records, place.lease_s, time.monotonic(), _in_loop(display.finish))
        service = LeaseService(queue, staging, display, key)
        async with _keeping(staging, records), _listening(service.application(), place) as address:
            if place.invites:
                console.print(escape(_how_to_join(address)), highlight=False)
            check_workers = on_open(address)
            while queue.unfinished:
                await asyncio.sleep(TICK_S)
                await service.expire()
                if check_workers is not None and queue.unfinished:
                    check_workers()
            await _say_farewell(service, place)


@asynccontextmanager
async def _keeping(staging: Staging, records: Records) -> AsyncIterator[None]:
    """Remove the files of ended leases before the block and after it."""

    def sweep() -> None:
        staging.keep_only(records.prompt_id(row) for row in records.rows if row.state == QUEUED)

    sweep()
    try:
        yield
    finally:
        sweep()


def _in_loop(show: Callable[[Record], None]) -> Callable[[Record], None]:
    """Return `show`, to be called from any thread."""
    loop = asyncio.get_running_loop()

    def show_there(record: Record) -> None:
        loop.call_soon_threadsafe(show, record)

    return show_there


async def _say_farewell(service: LeaseService, place: Place) -> None:
    """Wait until each worker that was heard lately knows that all rows have ended."""
    end = time.monotonic() + min(FAREWELL_S, place.lease_s)
    while time.monotonic() < end:
        if all(at <= end - 2 * place.lease_s for at in service.heard.values()):
            return
        await asyncio.sleep(TICK_S / 5)


@asynccontextmanager
async def _listening(app: web.Application, place: Place) -> AsyncIterator[str]:
    runner = web.AppRunner(app, access_log=None, logger=request_logger("driver"))
    await runner.setup()
    try:
        try:
            await web.TCPSite(runner, place.host, place.port).start()
        except OSError as error:
            raise BadInput(
                f"The driver cannot listen at {place.host}:{place.port} "
                f"({error.strerror or error}); choose another --serve."
            ) from error
        host, port = runner.addresses[0][:2]
        yield f"http://{f'[{host}]' if ':' in host else host}:{port}"
    finally:
        await runner.cleanup()


def _how_to_join(address: str) -> str:
    return (
        f"Workers join with: longtake worker --join {address} --key-file FILE (through another "
        "name of this machine, where they reach it by another)."
    )
