"""Rows that failed at one worker, and are tried once by another.

A worker may lack what another one has: a model, a picture, room in memory or on its disk.
"""

from __future__ import annotations


class SecondTries:
    """Which row failed at which worker, and which workers are there. Times are in seconds; who was
    silent for `patience_s` is gone.
    """

    def __init__(self, patience_s: float) -> None:
        self._patience_s = patience_s
        self._heard: dict[str, float] = {}
        self._failed_at: dict[int, str] = {}

    def hear(self, worker: str, now: float) -> None:
        """A worker is there; those that are gone are forgotten."""
        for name in [name for name, at in self._heard.items() if now - at >= self._patience_s]:
            del self._heard[name]
        self._heard[worker] = now

    def leave(self, worker: str) -> None:
        """A worker has said that it goes."""
        self._heard.pop(worker, None)

    def has_other(self, worker: str, now: float) -> bool:
        """Whether another worker is there."""
        return any(
            now - at < self._patience_s for name, at in self._heard.items() if name != worker
        )

    def note_failure(self, row: int, worker: str, now: float) -> bool:
        """Note that a row failed at a worker; return whether another tries it, which is once."""
        if row in self._failed_at or not self.has_other(worker, now):
            return False
        self._failed_at[row] = worker
        return True

    def may_run(self, row: int, worker: str) -> bool:
        """Whether a row did not fail at this worker."""
        return self._failed_at.get(row) != worker
