"""Re-planning: a made chunk is kept back until its driver is about to see it, so keys still act."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

from ...model.vae.latent_format import FRAMES_PER_LATENT
from ...samplers.camera.moves import CameraMotion
from .drive import POLL_S, Drive

PAGE_S = 0.1  # a page says each frame that it shows; the message takes time, and so does its turn

Motions = tuple[CameraMotion, ...]


class Replanning:
    """Hands out one chunk after another, each as late as its driver allows.

    What follows a chunk (decoding, encoding, sending) takes time. A chunk is due that long before
    its first frame is, as measured on the chunk before.
    """

    def __init__(
        self, drive: Drive, fps: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._drive, self._fps, self._clock = drive, fps, clock
        self._lead_s = PAGE_S
        self._sent_s: float | None = None

    def other_motions(
        self, frame: int, count: int, motions: Motions | None, goes_on: Callable[[], bool]
    ) -> Motions | None:
        """Wait until the chunk from frame of video `frame` on is due; None hands it out.

        If keys change the `motions` of its `count` new latent frames before that, returns theirs
        at once. `goes_on` is called meanwhile: False ends the wait, and an exception passes on.
        """
        due, frame_s = frame - math.ceil(self._lead_s * self._fps), FRAMES_PER_LATENT / self._fps
        while self._drive.replans and self._drive.is_ahead(due) and goes_on():
            current = self._drive.read_again(count, frame_s)
            if current is not None and current != motions:
                return current
            self._drive.wait(POLL_S)
        self._sent_s = self._clock()
        return None

    def note_arrival(self) -> None:
        """Measure how long the readers took for the chunk that was handed out."""
        if self._sent_s is not None:
            self._lead_s = PAGE_S + self._clock() - self._sent_s
        self._sent_s = None
