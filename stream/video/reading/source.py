"""A video file as pictures at even times. Every reader opens the file and holds only one piece.

clip = VideoClip.probe("shot.mp4", FrameRequest(fps=16, width=832, height=480))
with closing(VideoReader(clip)) as reader:
    while (piece := reader.read(16)) is not None: ...        # (n, 3, H, W) in [0, 1]
"""

from __future__ import annotations

import functools
import hashlib
import io
import logging
import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import av
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.video.stream import VideoStream

from ....errors import BadInput
from ..display.picture_times import display_ticks
from ..display.upright import PLAIN, StreamHeader, Upright
from ..frame_rate import exact_rate
from ..opening import frames_of, open_to_read, packets
from .missing_bytes import missing_bytes

logger = logging.getLogger("longtake")

VideoSource = str | io.BytesIO
"""A path, or a file in memory (as some of the host's VIDEO values are)."""

ROUNDING_S = Fraction(1, 1000)  # Matroska rounds times to milliseconds
BACK_S, AHEAD_S = 1, 10  # larger steps of a recording's times are where another one follows
CLOCKED_FORMATS = ("mpegts", "mpeg")  # in others, a picture may stand for any time
READ_BYTES = 1 << 22
MOST_FPS = 1000  # of raw DV, FFmpeg's average is more: the rate of the file's clock
REMEMBERED_FILES = 256
BARE_FORMATS = ("h264", "hevc", "vvc")  # FFmpeg gives their packets no times, and cannot seek


@dataclass(frozen=True, slots=True)
class FrameRequest:
    """Which part of a video to read, at which rate and size.

    `fps` is in frames per second, the size in pixels (0: the video's own). `start` is in seconds
    (negative: from the end), and so is `length` (0: to the end).
    """

    fps: Fraction
    width: int = 0
    height: int = 0
    start: float = 0.0
    length: float = 0.0


@dataclass(frozen=True, slots=True)
class VideoClip:
    """Part of a video file at an even rate and one size; `digest` identifies its content."""

    source: VideoSource
    request: FrameRequest
    width: int
    height: int
    start_s: Fraction
    frame_total: int
    digest: str

    @classmethod
    def probe(cls, source: VideoSource, request: FrameRequest) -> VideoClip:
        """Measure the file from the times of its packets; decodes only one picture.

        A warning tells of a file that was cut short, as by a copy or a download that broke off.
        """
        with open_container(source) as container:
            stream = video_stream(container)
            header = StreamHeader.of(stream)
            width, height = _upright_size(container, stream, source)
            length_s = _length_s(container, stream, source)
        _warn_if_cut(source, length_s)
        start = Fraction(request.start).limit_denominator(1000)
        start = max(Fraction(0), start + length_s if start < 0 else start)
        left = length_s - start
        if request.length:
            left = min(left, Fraction(request.length).limit_denominator(1000))
        total = int(-(-(left - ROUNDING_S) * request.fps // 1))
        if total < 1:
            raise no_frames_left(float(length_s), request.start)
        size = (request.width or width, request.height or height)
        described = f"{content_digest(source)} {request!r} {size}"
        if header != PLAIN:  # others are read as ever, and kept shots know their digest
            described += f" {header!r}"
        return cls(source, request, *size, start, total, _hash(described))

    def time(self, number: int) -> Fraction:
        """The latest start, in seconds of the video, of a picture that frame `number` may show.

        This allows for the rounding of times.
        """
        return self.start_s + number / self.request.fps + ROUNDING_S


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _warn_if_cut(source: VideoSource, length_s: Fraction) -> None:
    missing, whole = missing_bytes(source)
    if missing:
        logger.warning(
            "The video %s is cut short: at least %.0f %% of its bytes are missing, and %.2f s "
            "are left; copy or download it again to have all of it.",
            source_name(source), max(1, 100 * missing / whole), length_s,
        )  # fmt: skip


def _warn_of_joint(source: VideoSource, before_s: Fraction, after_s: Fraction) -> None:
    logger.warning(
        "The times of the video %s jump from %.2f to %.2f s, as in files that were joined: parts "
        "are left out, or a picture stands; write it anew: ffmpeg -i FILE -c copy NEW.mp4",
        source_name(source), before_s, after_s,
    )  # fmt: skip


def no_frames_left(length_s: float, start_s: float) -> BadInput:
    """The error for a video of `length_s` seconds that ends before `start_s`."""
    return BadInput(
        f"The video is {length_s:.2f} s long and has no frames from {start_s:g} s on; choose an "
        "earlier start."
    )


def probe_size(source: VideoSource) -> tuple[Fraction, int, int]:
    """Frames per second, width and height of a video, as shown upright."""
    with open_container(source) as container:
        stream = video_stream(container)
        size = _upright_size(container, stream, source)
        return _own_rate(container, stream), *size


def coded_size(source: VideoSource) -> tuple[int, int]:
    """Width and height of a video as its header says, whichever side is up."""
    with open_container(source) as container:
        stream = video_stream(container)
        return stream.width, stream.height


@contextmanager
def open_container(source: VideoSource) -> Iterator[InputContainer]:
    """Open a file for a short time; BadInput if it cannot be read."""
    container = open_file(source)
    with translate_errors(source), container:
        yield container


def open_file(source: VideoSource) -> InputContainer:
    """Open a file for a caller that closes it; BadInput if it cannot be read."""
    with translate_errors(source):
        file = source if isinstance(source, str) else io.BytesIO(source.getvalue())
        return open_to_read(file)


@contextmanager
def translate_errors(source: VideoSource) -> Iterator[None]:
    """Turn errors of the file into BadInput with one sentence."""
    try:
        yield
    except (av.FFmpegError, OSError) as error:
        raise BadInput(
            f"The video {source_name(source)} cannot be read ({error}); choose a file that plays."
        ) from error


def decoded(
    container: InputContainer, stream: VideoStream | AudioStream, source: VideoSource
) -> Iterator[Any]:
    """The pictures or the sound of a stream; damaged parts are left out, as players do.

    The end of a cut-off file is such a part. A warning names the file once for each opening.
    """
    is_whole = True
    for packet in packets(container, stream):
        try:
            frames = frames_of(packet)
        except av.InvalidDataError as error:
            if is_whole:
                name = source_name(source)
                logger.warning("Damaged parts of the video %s are left out (%s).", name, error)
            is_whole, frames = False, []
        yield from frames


def video_stream(container: InputContainer) -> VideoStream:
    """The file's first video stream; BadInput if it has sound only."""
    if not container.streams.video:
        raise BadInput("The file has no pictures; choose a video.")
    return container.streams.video[0]


def start_s(stream: VideoStream) -> Fraction:
    """The start of the stream on the file's clock, in seconds."""
    return Fraction(stream.start_time or 0) * tick_s(stream)


def tick_s(stream: VideoStream | AudioStream) -> Fraction:
    """The length of a tick of the stream's clock, in seconds."""
    return Fraction(stream.time_base or 1)


def _own_rate(container: InputContainer, stream: VideoStream) -> Fraction:
    """Frames a second on average, counted in a file that does not say, as a browser's recording."""
    if stream.average_rate:
        return usual_rate(stream)
    times = [packet.pts for packet in packets(container, stream) if packet.pts is not None]
    span_s = (max(times) - min(times)) * tick_s(stream) if times else Fraction(0)
    return exact_rate((len(times) - 1) / span_s) if span_s else usual_rate(stream)


def usual_rate(stream: VideoStream) -> Fraction:
    """Frames a second on average, 25 where the file says nothing."""
    average = Fraction(stream.average_rate or 25)
    return average if average <= MOST_FPS else Fraction(stream.guessed_rate or 25)


def _length_s(container: InputContainer, stream: VideoStream, source: VideoSource) -> Fraction:
    """Seconds to the end of the last picture, from the packets alone.

    A warning tells of files that were joined, whose times jump in the middle.
    """
    usual, tick, start = 1 / usual_rate(stream), tick_s(stream), start_s(stream)
    most_s = AHEAD_S if container.format.name in CLOCKED_FORMATS else math.inf
    before: int | None = None
    end, is_joined = Fraction(0), False
    shown = display_ticks(container.format.name, packets(container, stream), round(usual / tick))
    for packet, ticks in shown:
        step_s = 0 if None in (packet.dts, before) else (packet.dts - before) * tick
        if not is_joined and not -BACK_S <= step_s <= most_s:
            is_joined = True
            after = packet.dts if packet.pts is None else packet.pts
            _warn_of_joint(source, end - start, after * tick - start)
        before = packet.dts
        if ticks is not None:
            end = max(end, ticks * tick + (packet.duration * tick if packet.duration else usual))
    return end - start


def _upright_size(
    container: InputContainer, stream: VideoStream, source: VideoSource
) -> tuple[int, int]:
    """Width and height as shown, from the first picture that can be decoded."""
    if container.format.name in BARE_FORMATS:
        raise bare_video(f"video {source_name(source)}", container.format.name)
    for frame in decoded(container, stream, source):
        container.seek(0)
        return Upright.of(frame, StreamHeader.of(stream)).size(frame.width, frame.height)
    raise BadInput("No picture of the video can be decoded; choose a file that plays.")


def bare_video(name: str, format: str) -> BadInput:
    """The error for a file in one of the `BARE_FORMATS`."""
    return BadInput(
        f"The {name} is bare {format} without times; put it into a container, with its frames a "
        "second: ffmpeg -r 25 -i FILE -c copy FILE.mp4"
    )


def content_digest(source: VideoSource) -> str:
    """A digest of all bytes of a file, wherever it lies; BadInput if it cannot be read.

    Parts do not tell: a file of uncompressed pictures keeps its size and header in an edit. To
    measure a video reads the whole file too. A file as it was before is not read again.
    """
    if not isinstance(source, str):
        return hashlib.sha256(source.getvalue()).hexdigest()
    with translate_errors(source):
        facts = os.stat(source)
        return _file_digest(source, (facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns))


@functools.lru_cache(REMEMBERED_FILES)
def _file_digest(path: str, _facts: tuple[int, ...]) -> str:
    """The digest of a file; a change of its `_facts` makes the function read the file again."""
    digest = hashlib.sha256()
    with open(path, "rb", buffering=0) as file:
        while part := file.read(READ_BYTES):
            digest.update(part)
    return digest.hexdigest()


def source_name(source: VideoSource) -> str:
    """How error messages name a source."""
    return source if isinstance(source, str) else "in memory"
