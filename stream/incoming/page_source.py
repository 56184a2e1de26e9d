"""The pictures that a page sends of a camera or a screen, as a live source."""

from __future__ import annotations

import threading
import time
from dataclasses import replace

import av

from ...errors import BadInput
from ..video.display.upright import PLAIN
from .connection import SourceLost
from .inlet import FAULTS, Inlet, Wish

FIRST_S = 120.0  # in which a person opens the page and allows it
NAP_S = 0.2  # until a source that waits looks whether its reader has gone
MOST_PIXELS = 4096 * 4096
NOBODY = (
    "No page sent a picture for {seconds:g} s; open the player in a browser and press its button "
    "for the camera or the screen."
)


class PageSource:
    """Asks pages for pictures until `close`. BadInput if no first picture comes.

    `stall_s` is how long nothing may come after that. The wait ends with `ended`.
    """

    header, is_file = PLAIN, False

    def __init__(
        self,
        inlet: Inlet,
        wish: Wish,
        stall_s: float,
        ended: threading.Event,
        first_s: float = FIRST_S,
    ) -> None:
        self._inlet, self._stall_s, self._ended = inlet, stall_s, ended
        self._wish = replace(wish)  # its own, to be told from an equal one
        self._decoder = av.CodecContext.create("mjpeg", "r")
        self._decoder.thread_count = 1  # threads by frame would hold pictures back
        self._decoder.options = {"max_pixels": str(MOST_PIXELS)}
        inlet.ask(self._wish)
        try:
            self._first: av.VideoFrame | None = self._wait(first_s, BadInput)
        except BaseException:
            inlet.withdraw(self._wish)
            raise

    def next(self) -> tuple[float, av.VideoFrame]:
        """The next picture, at the time when it came; SourceLost if none comes any more."""
        frame, self._first = self._first, None
        return time.monotonic(), frame or self._wait(self._stall_s, SourceLost)

    def interrupt(self) -> None:
        """Do nothing: a read that waits ends with `ended`. The inlet may be another source's."""

    def close(self) -> None:
        """Ask pages for no more pictures."""
        self._inlet.withdraw(self._wish)

    def _wait(self, seconds: float, kind: type[Exception]) -> av.VideoFrame:
        """The next picture that can be decoded; `kind` of error, in one sentence, if none comes.

        Until the first one, a person may still allow what the browser has refused.
        """
        end, reason = time.monotonic() + seconds, NOBODY.format(seconds=seconds)
        while (left_s := end - time.monotonic()) > 0 and not self._is_over:
            news = self._inlet.take(min(left_s, NAP_S))
            if news is None:
                continue
            if isinstance(news, bytes):
                frame = self._decode(news)
                if frame is not None:
                    return frame
                continue
            reason = FAULTS[news]
            if kind is SourceLost:
                break
        raise kind(reason)

    @property
    def _is_over(self) -> bool:
        return self._ended.is_set() or self._inlet.is_over

    def _decode(self, picture: bytes) -> av.VideoFrame | None:
        """A JPEG's picture; None if it is damaged."""
        try:
            frames = self._decoder.decode(av.Packet(picture))
        except av.FFmpegError:
            return None
        return next((frame for frame in frames if isinstance(frame, av.VideoFrame)), None)
