"""One connection from a live address to a target, in a process of its own.

PyAV opens and writes a target without a time limit. A server that accepts and then says nothing
would hold the process for ever, Ctrl-C included; from outside it can be ended.
"""

from __future__ import annotations

import errno
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection

import av
from av.container import InputContainer

from ...errors import BadInput, LongtakeError
from ..ndi.library import SCHEME as NDI
from ..ndi.output import open_output
from ..video.opening import AnyPacket, packets
from .target import Target

OPENED, CONNECTED, ALIVE, ENDED = "source opened", "connected", "alive", "ended"
FAILED, REFUSED = "failed", "refused"
TIMEOUT_S = 20.0
ALIVE_EVERY_S = 1.0
SENDING = "Sending; UDP does not tell whether anyone receives."


@dataclass(frozen=True, slots=True)
class Way:
    """From the live address `source` to `target`."""

    source: str
    target: Target


def send(way: Way, parent: Connection) -> None:
    """Pass packets on until the parent says something, and tell it how that goes.

    It hears (kind, sentence): OPENED, CONNECTED, ALIVE about once a second, and at last ENDED,
    FAILED, or REFUSED where no other try can help. CONNECTED, FAILED and REFUSED bring a sentence
    for the user.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's
    try:
        _pass_on(way, parent)
        _tell(parent, ENDED)
    except av.ProtocolNotFoundError:
        _tell(
            parent, REFUSED,
            f"The installed PyAV {av.__version__} cannot send {way.target.scheme}; use rtmp or "
            "udp, or an ffmpeg that can: ffmpeg -i ADDRESS -c copy -f mpegts TARGET.",
        )  # fmt: skip
    except BadInput as refusal:
        _tell(parent, REFUSED, str(refusal))
    except LongtakeError as failure:
        _tell(parent, FAILED, str(failure))


def _pass_on(way: Way, parent: Connection) -> None:
    with _explain("The source"), av.open(way.source, timeout=TIMEOUT_S) as source:
        _tell(parent, OPENED)
        with _explain("The target"):
            carry = _show if way.target.scheme == NDI else _copy
            carry(source, way.target, parent)


def _show(source: InputContainer, to: Target, parent: Connection) -> None:
    """Decode the pictures and the sound, and send them as an NDI source."""
    source.streams.video[0].thread_type = "SLICE"  # threads by frame would hold pictures back
    with open_output(to.host, source) as output:
        _tell(parent, CONNECTED, f"Sending as the NDI source {output.name}.")
        for packet in _until_told(source, parent):
            for frame in _decoded(packet):
                output.send(frame)


def _copy(source: InputContainer, to: Target, parent: Connection) -> None:
    """Pass the packets on as they are."""
    _check_host(to)
    with av.open(to.url, "w", format=to.container, options=to.options) as target:
        streams = {
            stream.index: target.add_stream_from_template(stream, opaque=True)
            for stream in (*source.streams.video, *source.streams.audio)
        }
        with _name_refusal(to):
            target.start_encoding()
        _tell(parent, CONNECTED, SENDING if to.scheme == "udp" else "Connected.")
        for packet in _until_told(source, parent):
            packet.stream = streams[packet.stream.index]
            target.mux(packet)


def _until_told(source: InputContainer, parent: Connection) -> Iterator[AnyPacket]:
    """The packets until the parent says something; it is told about once a second."""
    last_alive = time.monotonic()
    for packet in _packets(source):
        if parent.poll():
            return
        yield packet
        if time.monotonic() - last_alive > ALIVE_EVERY_S:
            _tell(parent, ALIVE)
            last_alive = time.monotonic()


def _decoded(packet: AnyPacket) -> list[av.VideoFrame | av.AudioFrame]:
    with _explain("The source"):
        frames: list[av.VideoFrame | av.AudioFrame] = packet.decode()
        return frames


def _check_host(target: Target) -> None:
    """LongtakeError for a host that nobody knows, which FFmpeg calls an error of input."""
    try:
        socket.getaddrinfo(target.host, None)
    except OSError as error:
        raise LongtakeError(f"The target failed (the host {target.host} is unknown).") from error


@contextmanager
def _name_refusal(target: Target) -> Iterator[None]:
    """Say what FFmpeg's RTMP means where a server says no, or hangs up, before any picture."""
    try:
        yield
    except av.FFmpegError as error:
        is_refusal = error.errno == errno.EIO or isinstance(error, av.EOFError)
        if target.container != "flv" or not is_refusal:
            raise
        raise LongtakeError(
            "The target failed (it refused the stream; check the application and the key)."
        ) from error


def _packets(source: InputContainer) -> Iterator[AnyPacket]:
    with _explain("The source"):
        for packet in packets(source):
            if packet.dts is not None:
                yield packet


def _tell(parent: Connection, kind: str, sentence: str = "") -> None:
    with suppress(OSError):  # a parent that has gone needs no words
        parent.send((kind, sentence))


@contextmanager
def _explain(side: str) -> Iterator[None]:
    """Name the side that failed; its address may hold a key and is not shown."""
    try:
        yield
    except av.ProtocolNotFoundError:
        raise
    except (av.FFmpegError, OSError) as error:
        raise LongtakeError(f"{side} failed ({error.strerror or type(error).__name__}).") from error
