"""The jitter buffer: pictures come in chunks and are shown one by one."""

from __future__ import annotations


class JitterBuffer:
    """Says at each tick whether the next picture is shown or the last one held.

    After a gap, the first picture that comes waits `wait_s` seconds, so that the next chunk may be
    late by as much without another gap.
    """

    def __init__(self, wait_s: float) -> None:
        self._wait_s = wait_s
        self._since: float | None = None  # when the first picture after a gap came

    def may_play(self, now: float, waiting: int) -> bool:
        """Whether to show a picture at second `now`, of `waiting` ones that are there."""
        if not waiting:
            self._since = None
            return False
        if self._since is None:
            self._since = now
        return now - self._since >= self._wait_s
