"""Servers of live pictures: ffmpeg itself, and one of ours that stalls, redirects and breaks."""

from __future__ import annotations

import io
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from PIL import Image

from longtake.tests.support.stream.live_site import FFMPEG

NAP_S = 0.02
LOGIN = "Basic dmlld2VyOnNlY3JldA=="  # viewer:secret


def jpeg(colour: tuple[int, int, int], size: tuple[int, int] = (64, 48)) -> bytes:
    """A picture of one colour, by Pillow."""
    file = io.BytesIO()
    Image.new("RGB", size, colour).save(file, "JPEG")
    return file.getvalue()


@contextmanager
def ffmpeg(*arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    """A running ffmpeg, ended by its own process id."""
    assert FFMPEG is not None
    command = [FFMPEG, "-hide_banner", "-loglevel", "error", "-threads", "1", *arguments]
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


COOKIES: dict[str, dict[str, str]] = {"/cookie": {"Set_Cookie": "a=b"}}


class FaultServer:
    """Answers by path: `/video` all at once, `/stall` all and then nothing, `/moved?to=` leads on.

    `/break` ends in the middle, `/page` is no video, `/loop` leads to itself, `/cookie` too, with
    a cookie, `/accent` to a name in Latin-1. `/locked` wants a login, of the kind that its query
    names. `/odd` says a length that is no number. Nothing takes ranges but `/ranges`.
    `/goes-on` sends all and then `tail` again and again, until the other side goes.
    """

    def __init__(self, content: bytes, host: str = "127.0.0.1") -> None:
        outer = self
        self.content, self.paths, self.closing = content, list[str](), threading.Event()
        self.tail = b""

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                outer.paths.append(self.path)
                outer.answer(self)

            def log_message(self, *arguments: object) -> None:
                """Tests are quiet."""

        self._server = ThreadingHTTPServer((host, 0), Handler)
        self._server.daemon_threads = True
        self.port = self._server.server_port
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))
        self._thread.start()

    def url(self, path: str, host: str = "127.0.0.1") -> str:
        """The address of a path."""
        return f"http://{host}:{self.port}{path}"

    def close(self) -> None:
        """End all answers and the server."""
        self.closing.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        """Write what belongs to the path."""
        name, _, query = handler.path.partition("?")
        own = {"/goes-on": self._go_on, "/ranges": self._send_range}
        if name in own:
            own[name](handler)
        elif name in ("/moved", "/loop", "/cookie"):
            target = query.partition("=")[2] or name
            self._head(handler, 302, Location=target, Content_Length="0", **COOKIES.get(name, {}))
        elif name == "/accent":
            self._head(handler, 302, Location="/vid\xe9 o", Content_Length="0")
        elif name == "/locked":
            self._ask_for_login(handler, query or "Basic")
        elif name == "/odd":
            self._head(handler, 200, Content_Length="\xb2", Accept_Ranges="bytes")
            handler.wfile.write(self.content)
            handler.close_connection = True
        elif name == "/page":
            self._send(handler, b"<html><p>No video.</p></html>" * 40)
        elif name in ("/video", "/vid%E9%20o"):
            self._send(handler, self.content)
        elif name in ("/stall", "/break"):
            self._head(handler, 200, Connection="close")
            part = len(self.content) // (1 if name == "/stall" else 2)
            handler.wfile.write(self.content[:part])
            handler.wfile.flush()
            if name == "/stall":
                self.closing.wait(600)
            handler.close_connection = True
        else:
            self._head(handler, 404, Content_Length="0")

    def _ask_for_login(self, handler: BaseHTTPRequestHandler, kind: str) -> None:
        if handler.headers["Authorization"] == LOGIN:
            self._send(handler, self.content)
        else:
            self._head(handler, 401, Content_Length="0", WWW_Authenticate=f'{kind} realm="x"')

    def _go_on(self, handler: BaseHTTPRequestHandler) -> None:
        self._head(handler, 200, Connection="close")
        with suppress(OSError):  # the other side has closed
            handler.wfile.write(self.content)
            while not self.closing.wait(NAP_S):
                handler.wfile.write(self.tail)
        handler.close_connection = True

    def _send(self, handler: BaseHTTPRequestHandler, content: bytes) -> None:
        self._head(handler, 200, Content_Length=str(len(content)))
        handler.wfile.write(content)

    def _send_range(self, handler: BaseHTTPRequestHandler) -> None:
        start = int((handler.headers.get("Range") or "bytes=0-")[6:].partition("-")[0])
        part, status = self.content[start:], 206 if "Range" in handler.headers else 200
        self._head(handler, status, Content_Length=str(len(part)), Accept_Ranges="bytes")
        handler.wfile.write(part)

    @staticmethod
    def _head(handler: BaseHTTPRequestHandler, status: int, **headers: str) -> None:
        handler.send_response(status)
        for name, value in headers.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.end_headers()


@contextmanager
def fault_server(content: bytes) -> Iterator[FaultServer]:
    """A running fault server."""
    server = FaultServer(content)
    try:
        yield server
    finally:
        server.close()


def wait_until(condition: Callable[[], object], seconds: float = 120.0) -> None:
    """Wait for something that another thread does; AssertionError if it never happens.

    Naps are counted, not seconds: a machine that stands still for a while does not end the wait.
    """
    for _ in range(round(seconds / NAP_S)):
        if condition():
            return
        time.sleep(NAP_S)
    assert condition(), "it did not happen"
