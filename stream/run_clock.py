"""Clocks of a run: monotonic seconds that stand still while the run is paused, or only waits."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class RunClock:
    """Call it for the time in seconds, on any thread; only differences have a meaning.

    `monotonic` returns the seconds of a clock that never goes back.
    """

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._finished_s = 0.0  # of pauses that have ended
        self._paused_at: float | None = None

    def __call__(self) -> float:
        """The seconds without pauses; the same value all through a pause."""
        with self._lock:
            now = self._monotonic() if self._paused_at is None else self._paused_at
            return now - self._finished_s

    @property
    def paused_s(self) -> float:
        """Total seconds of finished pauses."""
        return self._finished_s

    @contextmanager
    def pause(self) -> Iterator[None]:
        """Stand still while the block runs."""
        with self._lock:
            self._paused_at = self._monotonic()
        try:
            yield
        finally:
            with self._lock:
                self._finished_s += self._monotonic() - self._paused_at
                self._paused_at = None
