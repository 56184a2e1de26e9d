"""A driver whose own disk is full says so in its terminal."""

from __future__ import annotations

import asyncio
import io
from collections.abc import Awaitable, Callable
from pathlib import Path

import aiohttp
import pytest
from rich.console import Console
from yarl import URL

from longtake.headless.batch.display import REPEAT_S, Display
from longtake.headless.batch.record import Record, Records
from longtake.headless.batch.row import Row
from longtake.headless.leases import staging
from longtake.headless.leases.driver.driver import run_on_workers
from longtake.headless.leases.driver.place import Place
from longtake.tests.support.headless.lease_batches import KEY, SHOWN

Ask = Callable[[aiohttp.ClientSession, str], Awaitable[list[int]]]
FULL = OSError(28, "No space left on device")


def refuse(*_: object, **__: object) -> None:
    raise FULL


def test_a_record_that_finds_no_room_is_told_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def ask_twice(session: aiohttp.ClientSession, url: str) -> list[int]:
        with monkeypatch.context() as full:
            full.setattr("longtake.headless.batch.record.os.fsync", refuse)
            asked = [await _status(session, "POST", url, b'{"worker": "w"}') for _ in range(2)]
        return [*asked, await _status(session, "POST", url, b'{"worker": "w"}')]

    statuses, said = asyncio.run(_drive(tmp_path, ask_twice))
    assert statuses == [507, 507, 200]
    assert said.count("batch.jsonl cannot be written (No space left on device)") == 1
    assert "free some space. Workers wait and ask again." in said


def test_a_file_that_finds_no_room_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def bring(session: aiohttp.ClientSession, url: str) -> list[int]:
        async with session.post(url, data=b'{"worker": "w"}', headers=SHOWN) as answer:
            lease = (await answer.json())["lease"]
        monkeypatch.setattr(staging.Path, "mkdir", refuse)
        return [await _status(session, "PUT", f"{url}/{lease}/files/clip.mp4", b"x")]

    statuses, said = asyncio.run(_drive(tmp_path, bring))
    assert statuses == [507]
    assert "clip.mp4 cannot be written (No space left on device); free some space. Workers" in said


@pytest.mark.parametrize("request_line", ["PUT {}/files/clip.mp4", "POST {}/end"])
def test_a_worker_that_is_killed_while_it_sends_is_no_full_disk(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, request_line: str
) -> None:
    async def break_off(session: aiohttp.ClientSession, url: str) -> list[int]:
        async with session.post(url, data=b'{"worker": "w"}', headers=SHOWN) as answer:
            path = f"/lease/{(await answer.json())['lease']}"
        line = request_line.format(path)
        shown = "\r\n".join(f"{name}: {value}" for name, value in SHOWN.items())
        _, writer = await asyncio.open_connection("127.0.0.1", URL(url).port)
        writer.write(
            f"{line} HTTP/1.1\r\nHost: x\r\n{shown}\r\nContent-Length: 9\r\n\r\nab".encode()
        )
        await asyncio.sleep(0.2)
        writer.transport.abort()
        await asyncio.sleep(0.2)
        return []

    _, said = asyncio.run(_drive(tmp_path, break_off))
    assert said.startswith("Workers join with") and said.count("\n") == 1, said
    assert caplog.records == []


def test_a_disk_that_stays_full_is_told_again_after_a_while() -> None:
    now, shown = [0.0], io.StringIO()
    display = Display(Console(file=shown), [], lambda: now[0])
    for now[0] in (0.0, REPEAT_S / 2, REPEAT_S, REPEAT_S * 1.5):
        display.mark_refused("The disk is full.")
    assert shown.getvalue().count("The disk is full.") == 2


async def _status(session: aiohttp.ClientSession, method: str, url: str, data: bytes) -> int:
    async with session.request(method, url, data=data, headers=SHOWN) as answer:
        return answer.status


async def _drive(out: Path, ask: Ask) -> tuple[list[int], str]:
    """What a driver of one row answers, and what its terminal shows."""
    shown = io.StringIO()
    opened: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    rows = [Row(Record(1, "key", "w.json", {}, "001-w"), dict)]
    console = Console(file=shown, width=300)
    place = Place("127.0.0.1", 0)
    driver = asyncio.create_task(
        run_on_workers(rows, Records(out), place, KEY, console, opened.set_result)
    )
    try:
        async with aiohttp.ClientSession() as session:
            return await ask(session, f"{await opened}/lease"), shown.getvalue()
    finally:
        driver.cancel()
        await asyncio.gather(driver, return_exceptions=True)
