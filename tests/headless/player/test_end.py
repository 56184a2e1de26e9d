"""The player's page ends soon, whatever its visitors are doing."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from longtake.headless.player import app, server
from longtake.headless.player.server import PageServer
from longtake.stream.preview import routes
from longtake.stream.preview.takes import Takes
from longtake.tests.support.stream.live_servers import wait_until

LIMIT_S = 40.0  # aiohttp by itself would wait 60 s


@pytest.fixture
def page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> PageServer:
    monkeypatch.setattr(server, "END_S", 0.1)
    monkeypatch.setattr(app, "FAREWELL_S", 0.1)
    monkeypatch.setattr(routes, "BODY_LIMIT_S", 600.0)
    return PageServer(Takes(lambda: tmp_path), dict)


@contextmanager
def visitor(page: PageServer, request: str, *, answer: bytes) -> Iterator[None]:
    """A connection whose request is answered so, and that neither says nor reads more."""
    address = urlsplit(page.url)
    with socket.create_connection((address.hostname, address.port), LIMIT_S) as connection:
        connection.sendall(request.replace("HOST", address.netloc).encode())
        assert answer in connection.recv(500)
        yield


def check_end(page: PageServer) -> None:
    closing = threading.Thread(target=page.close, daemon=True)
    closing.start()
    wait_until(lambda: not closing.is_alive(), LIMIT_S)


def test_a_visitor_in_the_middle_of_a_request_does_not_keep_the_page_open(
    page: PageServer,
) -> None:
    head = "POST /longtake/attach HTTP/1.1\r\nHost: HOST\r\nExpect: 100-continue\r\n"
    fields = "Content-Type: application/json\r\nContent-Length: 90\r\n\r\n"
    with visitor(page, head + fields, answer=b" 100 "):  # so the server waits for a body now
        check_end(page)


def test_a_visitor_that_reads_no_more_does_not_keep_the_page_open(page: PageServer) -> None:
    head = f"GET /ws?clientId={page.key} HTTP/1.1\r\nHost: HOST\r\nConnection: Upgrade\r\n"
    key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
    with visitor(page, f"{head}Upgrade: websocket\r\n{key}\r\n", answer=b" 101 "):
        wait_until(lambda: page._sockets._open, 60)
        [reader] = page._sockets._open[page.key]
        assert isinstance(reader.transport, asyncio.WriteTransport)
        for _ in range(64):  # more than the buffers of a connection hold
            page.emit("longtake.take", {"padding": "x" * 2**20})
        wait_until(lambda: not is_sent(reader.transport), 60)
        check_end(page)


def is_sent(transport: asyncio.WriteTransport) -> bool:
    """Whether the connection has taken all that was written, up to what may wait."""
    return transport.get_write_buffer_size() <= transport.get_write_buffer_limits()[1]
