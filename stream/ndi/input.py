"""Receives the pictures of an NDI source, such as OBS, vMix or a camera.

NDI's frame synchronizer is asked for the newest picture again and again, since cyndilib's own
`receive` loses most pictures to it. Each call holds Python's lock for about 0.02 ms, so the library
runs in this process. Only the end of a receiver holds it longer, for half a second at most.
"""

from __future__ import annotations

import gc
from threading import Event
from typing import Any

import av
import numpy as np

from .finder import find
from .library import load

FORMATS = {"UYVY": ("uyvy422", 2), "BGRX": ("bgr0", 4), "BGRA": ("bgra", 4)}
"""By NDI's name: FFmpeg's, and the bytes of a pixel. Pictures with transparency come as BGRA."""
BT709 = 1  # NDI's library takes it for every size; as ITU-T H.273 numbers matrices
UNDEFINED_S = 9e11  # a larger time means that the sender, an old one, gave none
LOOKS_A_PICTURE = 2
FIRST_RATE = 60.0  # pictures a second, until the first one says
SLOWEST_RATE, FASTEST_RATE = 10.0, 240.0  # whatever a source says


class NdiInput:
    """An NDI source while it is received; `name` is its full name.

    BadInput if no source, or more than one, fits `name` within `patience_s` seconds.
    """

    def __init__(self, name: str, patience_s: float, ended: Event) -> None:
        source, modes = find(name, patience_s, ended), load("wrapper.ndi_recv")
        self.name: str = source.name
        self._receiver: Any = load("receiver").Receiver(
            color_format=modes.RecvColorFormat.UYVY_BGRA,
            bandwidth=modes.RecvBandwidth.highest,
            allow_video_fields=False,  # NDI's library makes whole pictures of interlaced ones
            recv_name="Longtake",
        )
        self._frame: Any = load("video_frame").VideoFrameSync()
        self._formats: Any = load("wrapper.ndi_structs").FourCC
        self._receiver.frame_sync.set_video_frame(self._frame)
        self._receiver.set_source(source)
        self._shown, self._rate = (0.0, 0.0), FIRST_RATE

    @property
    def is_connected(self) -> bool:
        """Whether the source sends to this receiver; it ends at once with the source."""
        return bool(self._receiver.get_num_connections())

    @property
    def pause_s(self) -> float:
        """How long to wait until the newest picture may be another one."""
        rate = min(max(self._rate, SLOWEST_RATE), FASTEST_RATE)
        return 1 / (LOOKS_A_PICTURE * rate)

    def picture(self) -> tuple[float | None, av.VideoFrame] | None:
        """The newest picture and its time on the source's clock, if it has one.

        None if there is no picture yet, or only the one that was given last. ValueError if its
        format is not known.
        """
        frame = self._frame
        self._receiver.frame_sync.capture_video()
        if not frame.xres:
            return None
        shown = frame.get_timestamp_posix(), frame.get_timecode_posix()
        if shown == self._shown:
            return None
        self._shown, self._rate = shown, _rate_of(frame)
        return shown[0] if shown[0] < UNDEFINED_S else None, self._copy()

    def close(self) -> None:
        """Let the source go.

        cyndilib's objects refer to one another in circles. Their threads and sockets last until
        Python collects these.
        """
        receiver, self._receiver, self._frame = self._receiver, None, None
        if receiver is not None:
            receiver.disconnect()
            del receiver
            gc.collect()

    def _copy(self) -> av.VideoFrame:
        """The picture in memory of its own; NDI's is free after this."""
        frame = self._frame
        name = self._formats(frame.fourcc).name
        if name not in FORMATS:
            raise ValueError(f"pictures of the kind {name}")
        kind, pixel_bytes = FORMATS[name]
        (width, height), stride = frame.get_resolution(), frame.get_line_stride()
        picture = av.VideoFrame(width, height, kind)
        plane: Any = picture.planes[0]  # PyAV's types do not say that it is a buffer
        rows = np.frombuffer(frame, np.uint8, height * stride).reshape(height, stride)
        copy = np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)
        copy[:height, : width * pixel_bytes] = rows[:, : width * pixel_bytes]
        if kind == "uyvy422":
            picture.colorspace = BT709
        return picture


def _rate_of(frame: Any) -> float:
    """Pictures a second, as the source says; 0 if it says nothing that can be."""
    try:
        return float(frame.get_frame_rate())
    except ZeroDivisionError:
        return 0.0
