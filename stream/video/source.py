"""A video file as pictures at even times: opened anew by every reader, never held whole.

clip = VideoClip.of("shot.mp4", Wanted(fps=16, width=832, height=480))
with closing(VideoReader(clip)) as reader:
    while (piece := reader.read(16)) is not None: ...        # (n, 3, H, W) in [0, 1]
"""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction

import av
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.video.stream import VideoStream

from ...errors import BadInput

VideoSource = str | io.BytesIO
"""A path, or a file in memory (as some of the host's VIDEO values are)."""

ROUNDING_S = Fraction(1, 1000)  # Matroska rounds times so
SAMPLED_BYTES = 1 << 16


@dataclass(frozen=True, slots=True)
class Wanted:
    """As what to read a video: frames a second, and size in pixels (0 keeps the video's own);
    from second `start` (negative: from the end) for `length` seconds (0: to the end).
    """

    fps: Fraction
    width: int = 0
    height: int = 0
    start: float = 0.0
    length: float = 0.0


@dataclass(frozen=True, slots=True)
class VideoClip:
    """Part of a video file at an even rate and one size. `digest` names what it shows."""

    source: VideoSource
    wanted: Wanted
    width: int
    height: int
    start_s: Fraction
    frame_total: int
    digest: str

    @classmethod
    def of(cls, source: VideoSource, wanted: Wanted) -> VideoClip:
        """Looks through the file's times, without decoding any picture."""
        with opened(source) as container:
            stream = pictures_of(container)
            width, height = _upright_size(container, stream)
            length_s = _length_s(container, stream)
        start = Fraction(wanted.start).limit_denominator(1000)
        start = max(Fraction(0), start + length_s if start < 0 else start)
        left = length_s - start
        if wanted.length:
            left = min(left, Fraction(wanted.length).limit_denominator(1000))
        total = int(-(-(left - ROUNDING_S) * wanted.fps // 1))
        if total < 1:
            raise nothing_left(float(length_s), wanted.start)
        size = (wanted.width or width, wanted.height or height)
        named = f"{_sampled(source)} {wanted!r} {size}".encode()
        return cls(source, wanted, *size, start, total, hashlib.sha256(named).hexdigest())

    def time(self, number: int) -> Fraction:
        """Up to which second of the video's own a picture may begin to be shown in frame `number`,
        rounding of times allowed for.
        """
        return self.start_s + number / self.wanted.fps + ROUNDING_S


def nothing_left(length_s: float, start_s: float) -> BadInput:
    """The refusal to read a video of `length_s` seconds from `start_s` on, which is its end."""
    return BadInput(
        f"The video is {length_s:.2f} s long, and nothing is left of it from {start_s:g} s on; "
        "choose an earlier start."
    )


def size_of(source: VideoSource) -> tuple[Fraction, int, int]:
    """Frames a second, width and height of a video, upright."""
    with opened(source) as container:
        stream = pictures_of(container)
        return Fraction(stream.average_rate or 25), *_upright_size(container, stream)


@contextmanager
def opened(source: VideoSource) -> Iterator[InputContainer]:
    """The file, for a short look; what cannot be read is refused in one sentence."""
    container = open_file(source)
    with refusing(source), container:
        yield container


def open_file(source: VideoSource) -> InputContainer:
    """The file, for a reader who closes it."""
    with refusing(source):
        file = source if isinstance(source, str) else io.BytesIO(source.getvalue())
        return av.open(file, "r")


@contextmanager
def refusing(source: VideoSource) -> Iterator[None]:
    """What goes wrong with the file, as one sentence."""
    try:
        yield
    except (av.FFmpegError, OSError) as error:
        raise BadInput(
            f"The video {name_of(source)} cannot be read ({error}); choose a file that plays."
        ) from error


def pictures_of(container: InputContainer) -> VideoStream:
    """The file's pictures; a file of sound alone is refused."""
    if not container.streams.video:
        raise BadInput("The file has no pictures; choose a video.")
    return container.streams.video[0]


def seconds(stream: VideoStream) -> Fraction:
    """When the stream begins, on the file's clock."""
    return Fraction(stream.start_time or 0) * clock_of(stream)


def clock_of(stream: VideoStream | AudioStream) -> Fraction:
    """Seconds in a tick of the stream's clock."""
    return Fraction(stream.time_base or 1)


def _length_s(container: InputContainer, stream: VideoStream) -> Fraction:
    """To the end of the last picture, from the packets alone."""
    usual = 1 / Fraction(stream.average_rate or 25)
    ends = [Fraction(0)]
    for packet in container.demux(stream):
        if packet.pts is not None:
            taken = packet.duration * clock_of(stream) if packet.duration else usual
            ends = [max(ends[0], packet.pts * clock_of(stream) + taken)]
    return ends[0] - seconds(stream)


def _upright_size(container: InputContainer, stream: VideoStream) -> tuple[int, int]:
    """Width and height as shown, by the first picture that can be decoded."""
    for frame in container.decode(stream):
        container.seek(0)
        sideways = round(getattr(frame, "rotation", 0) / 90) % 2
        return (frame.height, frame.width) if sideways else (frame.width, frame.height)
    raise BadInput("No picture of the video can be decoded; choose a file that plays.")


def _sampled(source: VideoSource) -> str:
    """A digest of a file's extent and of its beginning, middle and end."""
    file = open(source, "rb") if isinstance(source, str) else io.BytesIO(source.getvalue())  # noqa: SIM115
    with file:
        extent = file.seek(0, os.SEEK_END)
        found = hashlib.sha256(str(extent).encode())
        for place in (0, max(0, extent // 2 - SAMPLED_BYTES // 2), max(0, extent - SAMPLED_BYTES)):
            file.seek(place)
            found.update(file.read(SAMPLED_BYTES))
    return found.hexdigest()


def name_of(source: VideoSource) -> str:
    """As it is called in a sentence."""
    return source if isinstance(source, str) else "in memory"
