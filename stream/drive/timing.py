"""When a chunk begins and is handed out: as late as its driver allows, so that keys still act."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable

from ...model.config import FRAMES_PER_LATENT
from ...samplers.camera.moves import CameraMotion
from .drive import POLL_S, Drive

PAGE_S = 0.1  # a page says each frame that it shows; the message takes time, and so does its turn
REMEMBERED = 8  # chunks; the slowest of them says how long the next one may take

Clock = Callable[[], float]
Motions = tuple[CameraMotion, ...]


class LeadTime:
    """How long chunks take from a moment of their making until readers have taken them."""

    def __init__(self, clock: Clock) -> None:
        self._clock, self._since = clock, float("nan")
        self._recent = deque[float](maxlen=REMEMBERED)

    def start(self) -> None:
        """Measure from now on."""
        self._since = self._clock()

    def end(self) -> None:
        """Readers have taken the chunk; without a start, nothing was measured."""
        if not math.isnan(self._since):
            self._recent.append(self._clock() - self._since)
        self._since = float("nan")

    @property
    def is_known(self) -> bool:
        """Whether a chunk was measured."""
        return len(self._recent) > 0

    def frames(self, pace: float) -> int:
        """The frames of video that a page shows meanwhile, at `pace` frames a second."""
        return math.ceil((PAGE_S + max(self._recent, default=0.0)) * pace)


class DriveTiming:
    """Begins one chunk after another, and hands it out, so that its first picture is just in time.

    What follows (making, decoding, encoding, sending) takes time, as the newest chunks did. With
    re-plan a chunk is made early, kept back, and made again if keys change it meanwhile.
    """

    def __init__(self, drive: Drive, fps: float, clock: Clock = time.perf_counter) -> None:
        self._drive, self._fps = drive, fps
        self._making, self._delivery = LeadTime(clock), LeadTime(clock)

    def wait_to_begin(self, frame: int, earliest: int, goes_on: Callable[[], bool]) -> None:
        """Wait until the chunk from frame of video `frame` on must begin.

        That is not before the driver sees frame `earliest`. With re-plan a chunk begins at once.
        `goes_on` is called meanwhile: False ends the wait, and an exception passes on.
        """
        begin = earliest
        if self._making.is_known:
            begin = max(earliest, frame - self._making.frames(self._drive.pace))
        while not self._drive.replans and self._drive.is_ahead(begin) and goes_on():
            self._drive.wait(POLL_S)

    def note_begin(self) -> None:
        """Measure from here how long a chunk takes as a whole."""
        self._making.start()

    def other_motions(
        self, frame: int, count: int, motions: Motions | None, goes_on: Callable[[], bool]
    ) -> Motions | None:
        """Wait until the chunk from frame of video `frame` on is due; None hands it out.

        If keys change the `motions` of its `count` new latent frames before that, returns theirs
        at once. `goes_on` is as in `wait_to_begin`.
        """
        due = frame - self._delivery.frames(self._drive.pace)
        while self._drive.replans and self._drive.is_ahead(due) and goes_on():
            current = self._drive.read_again(count, FRAMES_PER_LATENT / self._fps)
            if current is not None and current != motions:
                return current
            self._drive.wait(POLL_S)
        self._delivery.start()
        return None

    def note_arrival(self) -> None:
        """Readers have taken the chunk that was handed out."""
        self._making.end()
        self._delivery.end()
