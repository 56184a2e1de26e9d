"""Receives OSC messages over UDP and passes them to a run.

While a request is on its way, newer messages for the same thing replace older ones. A run reads its
controls only between two chunks, so nothing that it could have obeyed is lost.
"""

from __future__ import annotations

import errno
import importlib
import socket
import threading
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any, Protocol

from ...errors import BadInput, LongtakeError
from ...pip_command import pip_install
from .addresses import ADDRESSES, HELP, Request, Unreadable, describe, read_request

MAX_DATAGRAM = 65535
POLL_S = 0.25
REPEAT_S = 1.0  # a run lets go of a camera after 5 s: stream/drive/drive.py


class Target(Protocol):
    """What obeys requests of the player's control route."""

    def send(self, request: Request) -> None:
        """Obey; LongtakeError says in one sentence why not."""

    def repeat(self) -> None:
        """Hold what must be said again and again; LongtakeError as in `send`."""


class Mailbox:
    """Requests that wait, the newest of each kind; pause and resume are one kind."""

    def __init__(self) -> None:
        self.replaced = 0  # requests that a newer one has replaced
        self._waiting: dict[str, Request] = {}
        self._changed = threading.Condition()
        self._closed = False

    def put(self, request: Request) -> None:
        """Leave a request, in place of an older one of its kind."""
        kind = "pause" if request["op"] == "resume" else request["op"]
        with self._changed:
            self.replaced += self._waiting.pop(kind, None) is not None
            self._waiting[kind] = request
            self._changed.notify()

    def close(self) -> None:
        """End `take` after the requests that wait."""
        with self._changed:
            self._closed = True
            self._changed.notify()

    def take(self, wait_s: float | None = None) -> Request | None:
        """The request that waits longest; blocks until there is one, but no longer than `wait_s`.

        None after the end; empty if the time has passed.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._closed, wait_s)
            kind = next(iter(self._waiting), None)
            if kind is not None:
                return self._waiting.pop(kind)
            return None if self._closed else {}


class Bridge:
    """Listens at a UDP address from its creation on; `run` works until `close`.

    BadInput if nothing can listen there, or python-osc is missing.
    """

    def __init__(
        self, listen: tuple[str, int], target: Target, tell: Callable[[str], None]
    ) -> None:
        self._osc = _library()
        self._target, self._tell = target, tell
        self._mailbox = Mailbox()
        self._closing = threading.Event()
        self._failure: Exception | None = None
        self._socket = _socket_at(*listen)
        self._socket.settimeout(POLL_S)
        self.port: int = self._socket.getsockname()[1]
        self._sender = threading.Thread(target=self._send, name="longtake osc", daemon=True)

    def run(self) -> None:
        """Receive messages until `close`, and pass them on from a thread of their own.

        An error of that thread that nobody expects ends this one, and is raised here.
        """
        self._sender.start()
        try:
            while not self._closing.is_set():
                with suppress(TimeoutError, ConnectionResetError):  # Windows: help was lost
                    self._receive(*self._socket.recvfrom(MAX_DATAGRAM))
        finally:
            self._mailbox.close()
            self._sender.join()
            self._socket.close()
        if self._failure is not None:
            raise self._failure

    def close(self) -> None:
        """End `run` within `POLL_S`, after the requests that wait; any thread may call this."""
        self._closing.set()

    def _receive(self, datagram: bytes, sender: Any) -> None:
        for address, arguments in self._messages(datagram):
            if address == HELP:
                self._answer_help(sender)
                continue
            try:
                request = read_request(address, arguments)
            except Unreadable as error:
                self._tell(str(error))
                continue
            if request:
                self._mailbox.put(request)

    def _messages(self, datagram: bytes) -> Iterable[tuple[str, list[object]]]:
        """The messages of a datagram, those of bundles too; none if it is not OSC."""
        try:
            packet = self._osc.osc_packet.OscPacket(datagram)
        except (
            self._osc.osc_packet.ParseError, ValueError, IndexError, UnicodeError,
            RecursionError,  # bundles within bundles, some hundreds deep
        ) as error:  # fmt: skip
            self._tell(f"A datagram of {len(datagram)} bytes is not OSC ({error}).")
            return []
        return [(timed.message.address, timed.message.params) for timed in packet.messages]

    def _answer_help(self, sender: Any) -> None:
        try:
            for name, line in zip(ADDRESSES, describe(), strict=True):
                message = self._osc.osc_message_builder.OscMessageBuilder(HELP)
                message.add_arg(name)
                message.add_arg(line)
                self._socket.sendto(message.build().dgram, sender)
        except OSError as error:
            self._tell(f"Help cannot be sent to {sender[0]} ({error.strerror or error}).")

    def _send(self) -> None:
        try:
            self._pass_on()
        except Exception as error:  # without this thread, messages would be taken and lost
            self._failure = error
            self._closing.set()

    def _pass_on(self) -> None:
        while (request := self._mailbox.take(REPEAT_S)) is not None:
            try:
                if request:
                    self._target.send(request)
                    self._tell(f"Sent: {_words(request)}")
                else:
                    self._target.repeat()
            except LongtakeError as error:
                self._tell(str(error))


def _socket_at(host: str, port: int) -> socket.socket:
    if not host:  # which the system would read as every address of this machine
        raise BadInput("Nothing can listen at an empty address; give one such as 127.0.0.1.")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_DGRAM)
    try:
        listener.bind((host, port))
    except (OSError, TypeError) as error:  # TypeError: a name that is none
        listener.close()
        reason, number = getattr(error, "strerror", None) or error, getattr(error, "errno", None)
        is_port = number in (errno.EADDRINUSE, errno.EACCES)
        advice = "port" if is_port else "address, such as 127.0.0.1"
        raise BadInput(
            f"Nothing can listen at {host} port {port} ({reason}); choose another {advice}."
        ) from error
    return listener


def _words(request: Request) -> str:
    return " ".join(str(value) for value in request.values())


class _Library:
    """The modules of python-osc that the bridge uses."""

    def __init__(self, osc_packet: Any, osc_message_builder: Any) -> None:
        self.osc_packet, self.osc_message_builder = osc_packet, osc_message_builder


def _library() -> _Library:
    try:
        names = ("osc_packet", "osc_message_builder")
        return _Library(*(importlib.import_module(f"pythonosc.{name}") for name in names))
    except ModuleNotFoundError as error:
        raise BadInput(
            f"OSC needs the package python-osc; run: {pip_install('python-osc')}"
        ) from error
