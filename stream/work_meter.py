"""How long one maker of a shot works: its generator, or a stage behind it."""

from __future__ import annotations

import time
from collections.abc import Callable


class WorkMeter:
    """Seconds of work for a second of video with `fps` frames a second.

    What is made by one `begin` and `end` is a part. The first one does not count, since it may load
    and compile. `clock` returns seconds and never goes back.
    """

    def __init__(self, fps: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._fps, self._clock = fps, clock
        self._began = clock()
        self._is_warm = False
        self._seconds = 0.0
        self._frames = 0

    def begin(self) -> None:
        """Work on the next part from now on; others may have worked until now."""
        self._began = self._clock()

    def end(self, frames: int) -> None:
        """The next `frames` pictures are made."""
        if self._is_warm:
            self._seconds += self._clock() - self._began
            self._frames += frames
        self._is_warm = True

    @property
    def factor(self) -> float | None:
        """Seconds for a second of video; None before the second part."""
        return self._seconds * self._fps / self._frames if self._frames else None
