"""The messages to the pages of `--watch`: several of them may follow one run."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from aiohttp import ClientWebSocketResponse
from aiohttp.test_utils import TestClient, TestServer

from longtake.headless.player import app as player_app
from longtake.headless.player.app import Sockets, application
from longtake.stream.preview.takes import Takes

Page = TestClient
LIMIT_S = 60.0


def with_page(folder: Path, test: Callable[[Page, Sockets], Awaitable[None]]) -> None:
    """Run a test against a server of pages."""

    async def run() -> None:
        sockets = Sockets()
        server = TestServer(application(Takes(lambda: folder), sockets))
        async with TestClient(server) as page:
            await asyncio.wait_for(test(page, sockets), LIMIT_S)

    asyncio.run(run())


async def numbers(socket: ClientWebSocketResponse, count: int) -> list[int]:
    """The numbers of the next messages to a page."""
    return [(await socket.receive_json())["data"]["number"] for _ in range(count)]


def test_every_page_of_a_key_gets_every_message_in_order(tmp_path: Path) -> None:
    async def check(page: Page, sockets: Sockets) -> None:
        emit = sockets.emitter("key")
        async with page.ws_connect("/ws?clientId=key") as desk:
            async with page.ws_connect("/ws?clientId=key") as phone:
                for number in range(3):
                    emit("longtake.take", {"number": number})
                assert await numbers(desk, 3) == await numbers(phone, 3) == [0, 1, 2]
            emit("longtake.take", {"number": 3})
            assert await numbers(desk, 1) == [3], "another page's leaving is nothing to this one"

    with_page(tmp_path, check)


def test_a_page_of_another_key_gets_nothing(tmp_path: Path) -> None:
    async def check(page: Page, sockets: Sockets) -> None:
        async with page.ws_connect("/ws?clientId=other") as other:
            sockets.emitter("key")("longtake.take", {"number": 0})
            sockets.emitter("other")("longtake.take", {"number": 1})
            assert await numbers(other, 1) == [1]

    with_page(tmp_path, check)


def test_a_page_that_reads_nothing_keeps_no_other_waiting(tmp_path: Path) -> None:
    async def check(page: Page, sockets: Sockets) -> None:
        emit, padding = sockets.emitter("key"), "x" * 2**20
        async with page.ws_connect("/ws?clientId=key", max_msg_size=0) as asleep:
            connection = asleep._conn
            assert connection is not None and connection.transport is not None
            connection.transport.pause_reading()
            async with page.ws_connect("/ws?clientId=key", max_msg_size=0) as awake:
                for number in range(32):
                    emit("longtake.take", {"number": number, "padding": padding})
                assert await numbers(awake, 32) == [*range(32)]
            connection.transport.resume_reading()

    with_page(tmp_path, check)


def test_a_page_that_answers_no_ping_is_let_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(player_app, "HEARTBEAT_S", 0.1)

    async def check(page: Page, sockets: Sockets) -> None:
        async with page.ws_connect("/ws?clientId=key", autoping=False) as asleep:
            while not asleep.closed:
                await asleep.receive()
        assert not sockets._open

    with_page(tmp_path, check)
