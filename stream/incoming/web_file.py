"""A source over HTTP as a file object for PyAV, which then opens no address by itself.

Redirects are followed here, so that each one can be checked. A server that takes ranges can be
sought in, as MP4 files need.
"""

from __future__ import annotations

import base64
import contextlib
import http.client
import io
import socket
import ssl
import string
from urllib.parse import quote, unquote, urljoin, urlsplit

from ...errors import BadInput
from .address import WEB, SourceAddress
from .redirects import Door

MAX_REDIRECTS = 8
REDIRECTS = (301, 302, 303, 307, 308)
AGENT = "Longtake"
MAX_DIGITS = 18  # of a size in bytes


class WebFile:
    """The body of an answer, read as the server sends it."""

    def __init__(self, address: SourceAddress, stall_s: float) -> None:
        self._address, self._stall_s = address, stall_s
        self._door = Door(address.host, address.shown)
        self._url, self._position = address.url, 0
        self._wire: socket.socket | None = None
        self._answer: http.client.HTTPResponse | None = None
        self._has_failed = False
        answer = self._open(0)
        length = answer.getheader("Content-Length") or ""
        takes_ranges = (answer.getheader("Accept-Ranges") or "").lower() == "bytes"
        self.has_ended = False  # whether the server has sent its last byte
        self.is_whole = _is_size(length)  # a stream that goes on has no length
        self.size = int(length) if takes_ranges and self.is_whole else None

    def read(self, count: int) -> bytes:
        """What is there of the next `count` bytes; empty at the end. TimeoutError if it stalls.

        Empty after an error too: PyAV raises the first one, and would print it at a second one.
        """
        if self._has_failed or (self._answer is None and self._position >= (self.size or 0)):
            return b""
        try:
            answer = self._answer or self._open(self._position)
            content = answer.read1(count)
        except BaseException:
            self._has_failed = True
            raise
        self._position += len(content)
        self.has_ended = not content
        return content

    def seekable(self) -> bool:
        """Whether the server gives the file from any place on."""
        return self.size is not None

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Go to a place in the file; the next read asks for it."""
        if self.size is None:
            raise io.UnsupportedOperation("the server does not take ranges")
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self.size}[whence]
        place = max(0, start + offset)
        if place != self._position:
            self.close()
            self._position = place
        return place

    def tell(self) -> int:
        """The place of the next byte."""
        return self._position

    def interrupt(self) -> None:
        """End a read that waits on another thread."""
        wire = self._wire
        if wire is not None:
            with contextlib.suppress(OSError):  # the other side has closed it
                wire.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Close the connection, if there is one."""
        answer, wire, self._answer, self._wire = self._answer, self._wire, None, None
        for part in (answer, wire):
            if part is not None:
                part.close()

    def _open(self, start: int) -> http.client.HTTPResponse:
        try:
            self._answer = self._follow(start)
        except BaseException:
            self.close()
            raise
        return self._answer

    def _follow(self, start: int) -> http.client.HTTPResponse:
        cookie = ""
        for _ in range(MAX_REDIRECTS + 1):
            answer = self._answer = self._request(start)
            if answer.status not in REDIRECTS:
                return self._checked(answer, start)
            target = _led_to(self._url, _ascii(answer.getheader("Location", "")))
            if answer.getheader("Set-Cookie"):
                cookie = " and asks for a cookie, which Longtake does not keep"
            self.close()
            if urlsplit(target).scheme not in WEB:
                raise BadInput(
                    f"The live source {self._address.shown} redirects to something other than http "
                    "and https; give the address that it leads to."
                )
            self._url = target
        raise BadInput(
            f"The live source {self._address.shown} redirects more than {MAX_REDIRECTS} times"
            f"{cookie}; give the address that it leads to."
        )

    def _request(self, start: int) -> http.client.HTTPResponse:
        parts = urlsplit(self._url)
        host, is_tls = parts.hostname or "", parts.scheme == "https"
        port = parts.port or (443 if is_tls else 80)
        wire = self._wire = self._door.connect(host, port, self._stall_s)
        if is_tls:
            wire = ssl.create_default_context().wrap_socket(wire, server_hostname=host)
        connection = http.client.HTTPConnection(host, port, timeout=self._stall_s)
        connection.sock = self._wire = wire
        connection.default_port = 443 if is_tls else 80  # which a Host header leaves out
        headers = {"User-Agent": AGENT, "Accept": "*/*", **_login(parts.username, parts.password)}
        if start:
            headers["Range"] = f"bytes={start}-"
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        connection.request("GET", target, headers=headers)
        return connection.getresponse()

    def _checked(self, answer: http.client.HTTPResponse, start: int) -> http.client.HTTPResponse:
        if answer.status == (206 if start else 200):
            return answer
        if answer.status == http.client.UNAUTHORIZED:
            raise self._locked(answer.getheader("WWW-Authenticate") or "")
        raise BadInput(
            f"The live source {self._address.shown} answers {answer.status} {answer.reason}; check "
            "the address."
        )

    def _locked(self, challenge: str) -> BadInput:
        """The error for a server that wants a login: none, another one or one of another kind."""
        kind = challenge.partition(" ")[0]
        advice = "the name or the password in its address is not right"
        if kind.lower() not in ("", "basic"):
            advice = (
                f"it wants the kind {kind}, and an address gives Basic alone; choose Basic in the "
                "camera's settings, or use its rtsp address"
            )
        elif urlsplit(self._url).username is None:
            advice = "write them into its address: http://USER:PASSWORD@HOST"
        return BadInput(
            f"The live source {self._address.shown} asks for a name and a password; {advice}."
        )


def _led_to(url: str, location: str) -> str:
    """The address that a redirect of `url` names, with the login of `url` on the same server."""
    old, target = urlsplit(url), urlsplit(urljoin(url, location))
    login, at, server = old.netloc.rpartition("@")
    if target.scheme == old.scheme and target.netloc.lower() == server.lower():
        target = target._replace(netloc=login + at + target.netloc)
    return target.geturl()


def _is_size(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= MAX_DIGITS


def _ascii(location: str) -> str:
    """An address as a server sends it, in bytes that http.client reads as Latin-1."""
    return quote(location, safe=string.punctuation, encoding="latin-1")


def _login(name: str | None, password: str | None) -> dict[str, str]:
    """The header for a name and a password in a URL."""
    if name is None:
        return {}
    pair = f"{unquote(name)}:{unquote(password or '')}".encode()
    return {"Authorization": f"Basic {base64.b64encode(pair).decode()}"}
