"""What a relay tells while it tries again: each sentence once, then seldom and with a count."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

FIRST_PAUSE_S = 60.0
LONGEST_PAUSE_S = 3600.0
STEADY_S = 10.0
"""A connection that lasts so long ends an outage: some servers accept, and hang up at once."""


@dataclass(slots=True)
class _Failure:
    first: float
    next: float
    pause_s: float = FIRST_PAUSE_S
    tries: int = 1


class Outage:
    """Passes on to `tell` what fails and when it works again.

    A failure is told when it is new, and again after 1, 3, 7, ... minutes, at most an hour apart.
    `clock` returns seconds and must be monotonic.
    """

    def __init__(
        self, tell: Callable[[str], None], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._tell, self._clock = tell, clock
        self._failures: dict[str, _Failure] = {}
        self._connected = ""  # the sentence of a connection, once told in this outage
        self._connected_at: float | None = None
        self._last = ""

    def fail(self, failure: str) -> None:
        """A try has failed, and another follows."""
        self._connected_at, now = None, self._clock()
        known = self._failures.get(failure)
        if known is None:
            self._failures[failure] = _Failure(now, now + FIRST_PAUSE_S)
            self._say(f"{failure} Trying again.")
            return
        known.tries += 1
        if now >= known.next:
            known.pause_s = min(2 * known.pause_s, LONGEST_PAUSE_S)
            known.next = now + known.pause_s
            minutes = (now - known.first) / 60
            self._say(f"{failure} {known.tries} tries in {minutes:.0f} min. Trying again.")

    def connect(self, sentence: str) -> None:
        """A connection is there; `sentence` says so."""
        self._connected_at = self._clock()
        if sentence != self._connected:
            self._connected = sentence
            self._say(sentence)

    def go_on(self) -> None:
        """The connection works still; if it has lasted, the outage is over."""
        if self._connected_at is None or self._clock() - self._connected_at < STEADY_S:
            return
        if self._last != self._connected:  # it was told too early, before another failure
            self._say(self._connected)
        self._failures.clear()
        self._connected, self._connected_at = "", None

    def _say(self, sentence: str) -> None:
        self._last = sentence
        self._tell(sentence)
