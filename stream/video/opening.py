"""Opening videos to read them, and their packets.

Their texts, such as a title, may be in any encoding, and streams may begin in the middle.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import av
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.video.stream import VideoStream

from ...versions import version_numbers

READS_ANY_TEXT = "19"
"""PyAV's version since which it reads texts in any encoding, and is not told to."""
AnyPacket = Any  # a packet of either kind of stream: PyAV 16 has no generic type


def open_to_read(file: Any, **options: Any) -> InputContainer:
    """`av.open` to read `file`, a path or a file object, with further `options`."""
    container: InputContainer = av.open(file, "r", **text_options(av.__version__), **options)
    return container


def text_options(pyav: str) -> dict[str, Any]:
    """What this version of PyAV has to be told, or it fails at texts that are not UTF-8."""
    reads_any = version_numbers(pyav) >= version_numbers(READS_ANY_TEXT)
    return {} if reads_any else {"metadata_errors": "replace"}


def packets(container: InputContainer, *streams: VideoStream | AudioStream) -> Iterator[AnyPacket]:
    """The packets of the streams, of all where none is named, and the empty ones of the end.

    A stream that the container does not know since its opening is left out.
    """
    source = container.demux(*streams)
    while True:
        try:
            packet = next(source, None)
        except IndexError:  # PyAV looks at its end for streams that began in the middle
            return
        if packet is None:
            return
        yield packet


def frames_of(packet: AnyPacket) -> list[Any]:
    """The pictures or the sound that a packet brings out of its decoder.

    Theora writes an empty packet where the picture before stands still. Decoders refuse such a
    packet, or take it for the end; the one at the end has no time.
    """
    is_still = packet.size == 0 and packet.dts is not None
    frames: list[Any] = [] if is_still else packet.decode()
    return frames
