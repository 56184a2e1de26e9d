"""Passes a live address on to a streaming server, without encoding anything again.

RTMP and RTMPS carry FLV, SRT and UDP carry MPEG-TS. The packets are those of the live address.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

import av
from av.container import InputContainer

from ...errors import BadInput, LongtakeError

AnyPacket = Any  # a packet of either kind of stream: PyAV 16 has no generic type
CONTAINERS: Mapping[str, str] = {"rtmp": "flv", "rtmps": "flv", "srt": "mpegts", "udp": "mpegts"}
TIMEOUT_S = 20.0
RETRY_S = 2.0


class Relay:
    """From the live address `source` to `target`; both are checked at once, opened by `run`.

    BadInput if the source is no web address, or the target's scheme cannot be sent to.
    """

    def __init__(self, source: str, target: str, tell: Callable[[str], None]) -> None:
        if urlsplit(source).scheme not in ("http", "https"):
            raise BadInput(f"{source} is no live address; copy it from the player (Use in OBS).")
        self._scheme = urlsplit(target).scheme
        if self._scheme not in CONTAINERS:
            raise BadInput(
                f"The target's address begins with {self._scheme or 'nothing'}://; give one with "
                f"{', '.join(CONTAINERS)}."
            )
        self._source, self._target, self._tell = source, target, tell
        self._stopping = threading.Event()

    def run(self) -> None:
        """Pass packets on until `stop`; connect again where a side ends or fails.

        BadInput if PyAV cannot send to such a target at all.
        """
        while not self._stopping.is_set():
            try:
                self._pass_on()
                self._tell("The source has ended; trying again.")
            except av.ProtocolNotFoundError as error:
                raise BadInput(
                    f"The installed PyAV {av.__version__} cannot send {self._scheme}; use rtmp "
                    "or udp, or an ffmpeg that can: ffmpeg -i ADDRESS -c copy -f mpegts TARGET."
                ) from error
            except LongtakeError as failure:
                self._tell(f"{failure} Trying again.")
            self._stopping.wait(RETRY_S)

    def stop(self) -> None:
        """Make `run` return after the next packet; any thread may call this."""
        self._stopping.set()

    def _pass_on(self) -> None:
        with (
            _explain("The source"),
            av.open(self._source, timeout=TIMEOUT_S) as source,
            _explain("The target"),
        ):
            self._copy(source)

    def _copy(self, source: InputContainer) -> None:
        options = {"flvflags": "no_duration_filesize"} if self._scheme.startswith("rtmp") else {}
        container = CONTAINERS[self._scheme]
        with av.open(
            self._target, "w", format=container, options=options, timeout=TIMEOUT_S
        ) as target:
            streams = {
                stream.index: target.add_stream_from_template(stream)
                for stream in (*source.streams.video, *source.streams.audio)
            }
            target.start_encoding()
            self._tell("Connected.")
            for packet in _packets(source):
                if self._stopping.is_set():
                    return
                packet.stream = streams[packet.stream.index]
                target.mux(packet)


def _packets(source: InputContainer) -> Iterator[AnyPacket]:
    with _explain("The source"):
        for packet in source.demux():
            if packet.dts is not None:
                yield packet


@contextmanager
def _explain(side: str) -> Iterator[None]:
    """Name the side that failed; its address may hold a key and is not shown."""
    try:
        yield
    except av.ProtocolNotFoundError:
        raise
    except (av.FFmpegError, OSError) as error:
        raise LongtakeError(f"{side} failed ({error.strerror or type(error).__name__}).") from error
