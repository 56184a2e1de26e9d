"""Reasons are the system's own words, whatever aiohttp and asyncio put around them."""

from __future__ import annotations

import asyncio
import os
import socket

import aiohttp
import pytest

from longtake.headless.batch.servers.reasons import reason_of
from longtake.tests.support.server_process import free_port

REFUSED = os.strerror(111) if os.name == "posix" else ""
SEVERAL = (
    "Multiple exceptions: [Errno 111] Connect call failed ('::1', 1, 0, 0), "
    "[Errno 111] Connect call failed ('127.0.0.1', 1)"
)
on_linux = pytest.mark.skipif(REFUSED != "Connection refused", reason="numbers of Linux")


@on_linux
def test_a_port_where_nobody_listens_refuses() -> None:
    async def ask() -> None:
        async with aiohttp.ClientSession() as session:
            await session.get(f"http://127.0.0.1:{free_port()}")

    with pytest.raises(aiohttp.ClientConnectorError, match="Connect call failed") as refused:
        asyncio.run(ask())
    assert reason_of(refused.value) == "Connection refused"


@on_linux
def test_of_several_addresses_the_first_ones_reason_is_told() -> None:
    assert reason_of(OSError(SEVERAL)) == "Connection refused"


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (socket.gaierror(-2, "Name or service not known"), "Name or service not known"),
        (ConnectionResetError(104, "Connection reset by peer"), "Connection reset by peer"),
        (aiohttp.ClientPayloadError("<TransferEncodingError: 400>"), "its answer breaks off"),
        (aiohttp.ServerDisconnectedError(), "Server disconnected"),
        (asyncio.TimeoutError(), "TimeoutError"),
        (OSError(), "OSError"),
    ],
)
def test_a_reason_has_no_names_of_a_library(error: Exception, reason: str) -> None:
    assert reason_of(error) == reason
