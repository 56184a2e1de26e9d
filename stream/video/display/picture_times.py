"""Times of pictures in formats that do not say for each when it is shown.

Some say only when packets are decoded. FFmpeg guesses when these are shown. A guess may be late by
a picture, and goes back at B-frames. MPEG's streams give one time to all small pictures of a part.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import av
from av.container import InputContainer
from av.video.stream import VideoStream

from ..opening import AnyPacket, packets

UNTIMED_FORMATS = ("avi", "mpegvideo")


def display_ticks(
    format: str, coming: Iterable[AnyPacket], duration: int
) -> Iterator[tuple[AnyPacket, int | None]]:
    """The packets of a stream, and when each is shown, in ticks; in some formats another one is.

    A packet without times is decoded `duration` ticks after the one before, and shown as long after
    that as the first packet is. With B-frames, this is when another packet is shown.
    """
    decoded: int | None = None
    wait = 0  # of the first packet from its decoding until it is shown
    for packet in coming:
        ticks: int | None = packet.dts if format in UNTIMED_FORMATS else packet.pts
        if packet.dts is not None:
            wait = ticks - packet.dts if decoded is None and ticks is not None else wait
            decoded = packet.dts
        elif decoded is not None and ticks is None and packet.size:
            decoded += duration
            ticks = decoded + wait
        yield packet, ticks


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
    later. Pictures of other formats keep their own times. One without a time of its own comes
    `duration` ticks after the picture before.
    """

    def __init__(self, format: str, delay: int = 0, duration: int = 1) -> None:
        self._is_needed = format in UNTIMED_FORMATS
        self._delay, self._duration = delay, duration
        self._next: int | None = None  # for pictures without a time, as those that come last

    def stamp(self, frames: Iterable[av.VideoFrame]) -> Iterator[av.VideoFrame]:
        """The same pictures with their times."""
        for frame in frames:
            at = self._time_of(frame)
            if at is not None:  # else FFmpeg's guess, which is not early
                frame.pts, self._next = at, at + self._duration
            yield frame

    def _time_of(self, frame: av.VideoFrame) -> int | None:
        if self._is_needed:
            return self._next if frame.dts is None else frame.dts - self._delay
        return self._next if frame.pts is None else frame.pts
