"""Times of pictures in formats that say only when packets are decoded.

FFmpeg guesses when these are shown. A guess may be late by a picture, and goes back at B-frames.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import av
from av.container import InputContainer
from av.video.stream import VideoStream

from ..opening import AnyPacket, packets

UNTIMED_FORMATS = ("avi", "mpegvideo")


def display_ticks(format: str, packet: AnyPacket) -> int | None:
    """When a packet is shown, in ticks of its stream; in some formats that of another packet."""
    ticks: int | None = packet.dts if format in UNTIMED_FORMATS else packet.pts
    return ticks


def delay_ticks(container: InputContainer, stream: VideoStream) -> int:
    """How long a decoder of a file keeps the first picture; 0 where pictures have own times.

    The file must be at its start, and is there again afterwards.
    """
    if container.format.name not in UNTIMED_FORMATS:
        return 0
    first: int | None = None
    for packet in packets(container, stream):
        first = packet.dts if first is None else first
        try:
            frames = packet.decode()
        except av.InvalidDataError:
            continue
        if frames:
            container.seek(0)
            return max(0, (frames[0].dts or 0) - (first or 0))
    container.seek(0)
    return 0


class PictureTimes:
    """Gives decoded pictures of one stream their times, in its order of display.

    A decoder that keeps pictures for `delay` ticks gives one out when it takes the packet so much
    later. Pictures of other formats keep their own times.
    """

    def __init__(self, format: str, delay: int = 0, duration: int = 1) -> None:
        self._is_needed = format in UNTIMED_FORMATS
        self._delay, self._duration = delay, duration
        self._next: int | None = None  # for the last pictures, which no packet brings out

    def stamp(self, frames: Iterable[av.VideoFrame]) -> Iterator[av.VideoFrame]:
        """The same pictures with their times."""
        for frame in frames:
            at = self._next if frame.dts is None else frame.dts - self._delay
            if self._is_needed and at is not None:  # else FFmpeg's guess, which is not early
                frame.pts, self._next = at, at + self._duration
            yield frame
