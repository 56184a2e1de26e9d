"""Where FFmpeg goes when an RTSP server sends it elsewhere: to RTSP alone, on any host.

docs/reference/security.md says so; if a later FFmpeg does otherwise, that text must change.
"""

from __future__ import annotations

import socketserver
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from longtake.errors import BadInput
from longtake.stream.incoming.address import SourceAddress
from longtake.stream.incoming.connection import Connection

Answer = Callable[[str], tuple[str, str]]
"""The status and a header of the answer to a method."""


class Responder(socketserver.ThreadingTCPServer):
    """Answers RTSP requests and notes their first lines."""

    allow_reuse_address = daemon_threads = True

    def __init__(self, answer: Answer) -> None:
        self.answer, self.requests = answer, list[str]()
        super().__init__(("127.0.0.1", 0), Handler)

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self.server_address[1])


class Handler(socketserver.StreamRequestHandler):
    """One connection."""

    server: Responder

    def handle(self) -> None:
        """Answer until the client leaves."""
        while line := self.rfile.readline().decode().strip():
            self.server.requests.append(line)
            headers = dict(self._headers())
            status, header = self.server.answer(line.split()[0])
            text = f"RTSP/1.0 {status}\r\nCSeq: {headers['cseq']}\r\n{header}\r\n\r\n"
            self.wfile.write(text.encode())

    def _headers(self) -> Iterator[tuple[str, str]]:
        while line := self.rfile.readline().decode().strip():
            name, _, value = line.partition(":")
            yield name.lower(), value.strip()


@contextmanager
def responder(answer: Answer) -> Iterator[Responder]:
    """A server until the end of the block."""
    with Responder(answer) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.parametrize(
    ("place", "is_followed"),
    [
        ("rtsp://localhost:{port}/inside", True),
        ("http://localhost:{port}/inside", False),
        ("file:///etc/hostname", False),
    ],
)
def test_a_redirect_of_rtsp_leads_to_rtsp_alone_but_to_any_host(
    place: str, is_followed: bool
) -> None:
    with responder(lambda method: ("404 Not Found", "Server: inside")) as inside:
        location = f"Location: {place.format(port=inside.port)}"

        def lead(method: str) -> tuple[str, str]:
            leads = method == "DESCRIBE"
            return ("302 Found", location) if leads else ("200 OK", "Public: DESCRIBE, SETUP, PLAY")

        with responder(lead) as named:
            address = SourceAddress.parse(f"rtsp://127.0.0.1:{named.port}/camera")
            with pytest.raises(BadInput):
                Connection(address, 5.0)
        assert any(line.startswith("DESCRIBE") for line in named.requests)
        assert bool(inside.requests) is is_followed
