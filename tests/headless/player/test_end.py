"""The player's page ends soon, whatever its visitors are doing."""

from __future__ import annotations

import socket
import threading
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from longtake.headless.player import server
from longtake.headless.player.server import PageServer
from longtake.stream.preview.takes import Takes

LIMIT_S = 10.0  # the route itself would wait 15 s for the rest of the body


def test_a_visitor_in_the_middle_of_a_request_does_not_keep_the_page_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "END_S", 0.1)
    page = PageServer(Takes(lambda: tmp_path), dict)
    address = urlsplit(page.url)
    with socket.create_connection((address.hostname, address.port), LIMIT_S) as connection:
        connection.settimeout(LIMIT_S)
        head = f"POST /longtake/attach HTTP/1.1\r\nHost: {address.netloc}\r\n"
        fields = "Content-Type: application/json\r\nContent-Length: 90\r\nExpect: 100-continue\r\n"
        connection.sendall(f"{head}{fields}\r\n".encode())
        assert b" 100 " in connection.recv(100)  # so the server waits for a body now
        closing = threading.Thread(target=page.close, daemon=True)
        closing.start()
        closing.join(LIMIT_S)
        assert not closing.is_alive()
