"""Requests without the key, and bytes that are no request, at a driver of a batch."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from rich.console import Console
from yarl import URL

from longtake.headless.batch.record import Record, Records
from longtake.headless.batch.row import Row
from longtake.headless.leases.driver.driver import run_on_workers
from longtake.headless.leases.driver.place import Place

REQUESTS = {
    "no_key": (b"POST /lease HTTP/1.1\r\nHost: x\r\n\r\n", 401),
    "no_text": (b"POST /lease HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer \xff\xfe\r\n\r\n", 401),
    "no_address": (b"GET /\xc3\xa9 HTTP/1.1\r\nHost: x\r\n\r\n", 400),
    "no_http": (b"hello\r\n\r\n", 400),
}


@pytest.mark.parametrize("case", REQUESTS)
def test_a_stranger_gets_a_status_and_prints_nothing_at_the_driver(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, case: str
) -> None:
    content, expected = REQUESTS[case]
    assert asyncio.run(_ask(tmp_path, content)) == expected
    assert caplog.records == []


async def _ask(out: Path, content: bytes) -> int:
    """The status of a driver's answer."""
    opened: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    rows = [Row(Record(1, "key", "w.json", {}, "001-w"), dict)]
    driver = asyncio.create_task(
        run_on_workers(
            rows, Records(out), Place("127.0.0.1", 0), "a-key-of-this-test", Console(quiet=True),
            opened.set_result,
        )
    )  # fmt: skip
    try:
        port = URL(await opened).port
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(content)
        status = (await asyncio.wait_for(reader.readline(), 60)).split()[1]
        writer.close()
        return int(status)
    finally:
        driver.cancel()
        await asyncio.gather(driver, return_exceptions=True)
