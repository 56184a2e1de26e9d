"""Wraps encoded pictures and sound for one viewer, whose video begins at 0 s with a key frame."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from types import MappingProxyType
from typing import Literal, Protocol

import av

from .encoder import LiveEncoder, LivePacket

Container = Literal["mp4", "mpegts", "flv"]
OPTIONS: Mapping[Container, Mapping[str, str]] = MappingProxyType({
    # Fragments of 0.1 s: with `frag_every_frame`, FFmpeg 8 gives pictures beside sound false times.
    # The trailer would list them all: 60 MB of memory a day, for an index that no viewer reads.
    "mp4": {
        "movflags": "empty_moov+default_base_moof+skip_trailer", "frag_duration": "100000",
    },
    "mpegts": {},
    "flv": {"flvflags": "no_duration_filesize"},
})  # fmt: skip


class Writable(Protocol):
    """Receives the bytes of a growing file."""

    def write(self, content: bytes, /) -> int:
        """Append bytes; the number of bytes."""


class LiveMuxer:
    """Writes the packets of an encoder to a file or an address, from a key frame on."""

    def __init__(self, container: Container, encoder: LiveEncoder, file: Writable | str) -> None:
        options = dict(OPTIONS[container])
        self._file = av.open(file, "w", format=container, options=options)
        self._picture_stream = self._file.add_stream_from_template(encoder.video, opaque=True)
        self._sound_stream = self._file.add_stream_from_template(encoder.sound, opaque=True)
        self._file.start_encoding()
        self._start_s: Fraction | None = None

    def mux(self, packet: LivePacket) -> None:
        """Write a packet, unless it is before the first key frame."""
        if self._start_s is None and packet.is_key:
            self._start_s = packet.at * packet.tick_s
        if self._start_s is None:
            return
        at = packet.at - round(self._start_s / packet.tick_s)
        if at < 0:
            return
        copy = av.Packet(packet.content)
        copy.stream = self._picture_stream if packet.is_picture else self._sound_stream
        copy.pts, copy.dts, copy.duration = at, at, packet.ticks
        copy.time_base, copy.is_keyframe = packet.tick_s, packet.is_key or not packet.is_picture
        self._file.mux(copy)

    def close(self) -> None:
        """End the file, whose last fragment is written now."""
        self._file.close()
