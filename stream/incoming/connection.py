"""An open live source: its decoded pictures, one after another, as they come.

FFmpeg opens an address itself only for RTSP, SRT and UDP; HTTP is read by `WebFile`. Formats that
name other files, such as playlists, are not read at all.
"""

from __future__ import annotations

import errno
import http.client
import logging
import socket
import ssl
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import av
from av.container import InputContainer
from av.error import ExitError, ProtocolNotFoundError
from av.video.stream import VideoStream

from ...errors import BadInput
from ..video.display.picture_times import PictureTimes
from ..video.display.upright import StreamHeader
from ..video.opening import AnyPacket, frames_of, open_to_read, packets
from ..video.reading.source import BARE_FORMATS, bare_video, tick_s, usual_rate
from .address import SourceAddress
from .web_file import WebFile

logger = logging.getLogger("longtake")

FORMATS = "mpegts,mov,matroska,flv,avi,mpjpeg,mjpeg,jpeg_pipe,ogg,mpeg,h264,hevc,rtsp"
"""No playlist, no list of other files, nothing that reads an address."""
OPTIONS = {
    "format_whitelist": FORMATS,
    "analyzeduration": "1000000",  # microseconds
    "rtsp_flags": "prefer_tcp",  # UDP only where a camera takes nothing else: it loses packets
    "allowed_media_types": "video",
    "merge_pmt_versions": "1",  # PyAV passes over streams that begin in the middle
    "tls_verify": "0",  # of rtsps: cameras sign their own certificates, which FFmpeg 9 refuses
}
BUFFER_BYTES = 1 << 15
UNTIMED = ("mpjpeg", "mjpeg", "jpeg_pipe")  # FFmpeg counts their pictures as 25 a second
KEY_S = 30.0  # a stream that is joined in its middle has no picture before the next key frame


class SourceLost(Exception):
    """A live source that had begun gives no more pictures; the message is one sentence."""


class Connection:
    """A live source from its opening on; BadInput if it cannot be opened or is no video.

    `stall_s` is how long nothing may come. `size` is that of the newest picture.
    """

    def __init__(self, address: SourceAddress, stall_s: float) -> None:
        self.address, self._stall_s = address, stall_s
        self._web: WebFile | None = None
        self._container: InputContainer | None = None
        self._waiting: deque[av.VideoFrame] = deque()
        self._has_begun = False  # whether a picture came
        self._is_told = False  # of a clock that stands still
        try:
            with _told(address, stall_s, BadInput):
                self._container = self._open()
            self._stream = self._picture_stream(self._container)
            self._check_times(self._container)
            self._stream.thread_type = "SLICE"  # threads by frame would hold pictures back
        except BaseException:
            self.close()
            raise
        self._tick_s = tick_s(self._stream)
        self._format = self._container.format.name
        self._packets = self._all_packets(self._container)
        usual_ticks = round(1 / usual_rate(self._stream) / self._tick_s)
        self._times = PictureTimes(self._format, duration=usual_ticks)
        self._clock = PictureClock(is_paced=self._is_whole(self._container))
        self._check_index()

    @property
    def header(self) -> StreamHeader:
        """The shape of the pixels, and the transfer of HDR pictures."""
        return StreamHeader.of(self._stream)

    @property
    def is_file(self) -> bool:
        """Whether the source has an end of its own and would come faster than it plays."""
        return self._clock.is_paced

    def next(self) -> tuple[float, av.VideoFrame] | None:
        """The next picture and its time in seconds; None at the end. SourceLost if it breaks off.

        A file waits until its next picture is due.
        """
        with _told(self.address, self._stall_s, SourceLost):
            self._waiting = self._waiting or self._next_pictures()
        if not self._waiting:
            return None
        frame = self._waiting.popleft()
        at = self._clock.time(self._time_of(frame))
        self._tell_still_clock()
        return at, frame

    def interrupt(self) -> None:
        """End a read that waits on another thread; FFmpeg's own reads end when they give up."""
        if self._web is not None:
            self._web.interrupt()

    def close(self) -> None:
        """Close the source and its decoder."""
        if self._container is not None:
            self._container.close()
        if self._web is not None:
            self._web.close()

    def _open(self) -> InputContainer:
        place: WebFile | str = self.address.url
        if self.address.is_web:
            place = self._web = WebFile(self.address, self._stall_s)
        elif self.address.host:
            socket.getaddrinfo(self.address.host, None)  # FFmpeg would not say what is wrong
        return open_to_read(
            place, container_options=OPTIONS, buffer_size=BUFFER_BYTES,
            timeout=(self._stall_s, self._stall_s),
        )  # fmt: skip

    def _picture_stream(self, container: InputContainer) -> VideoStream:
        if not container.streams.video:
            raise BadInput(
                f"The live source {self.address.shown} sends no pictures; give the address of one "
                "with pictures, or begin to send them before the run."
            )
        return container.streams.video[0]

    def _is_whole(self, container: InputContainer) -> bool:
        """Whether the source is a file; a stream goes on, whatever it says of its length."""
        if container.format.name in ("mpegts", *BARE_FORMATS):
            return self._web is not None and self._web.is_whole
        return container.format.name not in ("rtsp", "mpjpeg") and bool(container.duration)

    def _check_times(self, container: InputContainer) -> None:
        """Refuse a file whose pictures would come all at once."""
        if container.format.name in BARE_FORMATS and self._is_whole(container):
            raise bare_video(f"live source {self.address.shown}", container.format.name)

    def _check_index(self) -> None:
        """Refuse a file whose pictures lie before its index, where nothing can be sought."""
        if not self.is_file or self._web is None or self._web.seekable():
            return
        try:
            with _told(self.address, self._stall_s, BadInput):
                self._waiting = self._next_pictures()
        except BadInput as error:
            self.close()
            if not self._format.startswith("mov"):
                raise
            raise BadInput(
                f"The live source {self.address.shown} is a file with its index at its end, and "
                "its server sends whole files only; load it with Load Video and Video to Frames "
                "(Stream), or write it anew with its index first (ffmpeg -movflags +faststart)."
            ) from error

    def _time_of(self, frame: av.VideoFrame) -> float | None:
        """What the source says of a picture's time in seconds; None where it says nothing."""
        if frame.pts is None or self._format in UNTIMED:
            return None
        return float(frame.pts * (frame.time_base or self._tick_s))

    def _tell_still_clock(self) -> None:
        """Say once that the source's own times are of no use."""
        if self._clock.stands_still and not self._is_told:
            self._is_told = True
            logger.warning(
                "The live source %s gives all its pictures the same time, so each counts from when "
                "it comes; motion may be uneven until the source's clock runs.", self.address.shown,
            )  # fmt: skip

    def _all_packets(self, container: InputContainer) -> Iterator[AnyPacket]:
        """The packets to the end, which FFmpeg takes for damage in motion JPEG."""
        try:
            yield from packets(container)
        except av.InvalidDataError:
            has_ended = self._web is not None and self._web.has_ended
            if not (has_ended and self._format in UNTIMED):
                raise

    def _next_pictures(self) -> deque[av.VideoFrame]:
        """The pictures of the next packet that has some; none at the end.

        TimeoutError if only sound comes, or what cannot be decoded, such as another codec's.
        """
        began = time.monotonic()
        for packet in self._packets:
            is_ours = packet.stream is self._stream or packet.stream.index == self._stream.index
            pictures = _decode(packet) if is_ours else []
            if pictures:
                self._has_begun = True
                return deque(self._times.stamp(pictures))
            awaits_key = is_ours and not self._has_begun
            patience_s = max(self._stall_s, KEY_S) if awaits_key else self._stall_s
            if time.monotonic() - began > patience_s:
                raise TimeoutError
        return deque()


class PictureClock:
    """Times of pictures on a clock that never goes back, whatever the source's does.

    The pictures of a source that `is_paced`, a file, are waited for. Where pictures come and the
    source's clock `stands_still`, they are of the time when they come.
    """

    JUMP_S = 10.0  # a larger step of the source's clock is a new beginning
    STILL_S = 1.0  # some sources give a few pictures one time

    def __init__(
        self,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
        *,
        is_paced: bool = False,
    ) -> None:
        self.is_paced = is_paced
        self._clock, self._sleep = clock, sleep
        self._offset_s: float | None = None
        self._last_s = self._moved_s = clock()
        self._at: float | None = None  # the source's own time of the last picture
        self.stands_still = False

    def time(self, at: float | None) -> float:
        """The time of a picture that the source gives as `at` seconds, or not at all."""
        now = self._clock()
        if at is None or at != self._at:
            self._at, self._moved_s = at, now
        self.stands_still = now - self._moved_s > self.STILL_S
        if at is None or self.stands_still:
            self._last_s = max(now, self._last_s)
            return self._last_s
        if self._offset_s is None:
            self._offset_s = now - at
        step = at + self._offset_s - self._last_s
        if step < 0 or step > self.JUMP_S:
            self._offset_s = max(now, self._last_s) - at
        self._last_s = at + self._offset_s
        if self.is_paced and self._last_s > now:
            self._sleep(min(self._last_s - now, self.JUMP_S))
        return self._last_s


def _decode(packet: AnyPacket) -> list[av.VideoFrame]:
    """The pictures of a packet; none of one that arrives damaged, as the first ones may."""
    try:
        return [frame for frame in frames_of(packet) if isinstance(frame, av.VideoFrame)]
    except av.InvalidDataError:
        return []


@contextmanager
def _told(address: SourceAddress, stall_s: float, kind: type[Exception]) -> Iterator[None]:
    """Turn what sockets and FFmpeg raise into one sentence about the source."""
    name = f"The live source {address.shown}"
    try:
        yield
    except (TimeoutError, ExitError, av.error.TimeoutError) as error:
        raise kind(
            f"{name} sent no picture for {stall_s:g} s; check that it is running."
        ) from error
    except ssl.SSLCertVerificationError as error:
        raise kind(
            f"{name} has a certificate that this machine does not trust ({error.verify_message}); "
            "name the certificate's file in the variable SSL_CERT_FILE, or use http."
        ) from error
    except ProtocolNotFoundError as error:
        raise BadInput(
            f"{name} cannot be opened, since this build of FFmpeg has no {address.scheme}; send "
            "the pictures by udp, rtsp or http."
        ) from error
    except (av.FFmpegError, OSError, http.client.HTTPException, ValueError) as error:
        # ValueError: a host, a port or a header that is none, of the user or of the server
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        if _is_no_video(error):
            raise kind(f"{name} is no video that can be read ({reason}).") from error
        raise kind(f"{name} cannot be read ({reason}); check that it is running.") from error


def _is_no_video(error: Exception) -> bool:
    """Whether FFmpeg cannot read what came. PyAV 16 and 17 name the class of EINVAL differently."""
    return isinstance(error, av.FFmpegError) and (
        isinstance(error, av.InvalidDataError) or error.errno == errno.EINVAL
    )
