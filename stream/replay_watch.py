"""What a user sees of a replay, which takes minutes in a long shot: how long. Pause and Stop work.

A change that guidance needs other branches for, or another LoRA strength, replays a running shot.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress

from ..samplers.loop import Chunk
from .timecode import time_label

TELL_AFTER_S = 5.0


class _Stopped(Exception):
    """A user's Stop has ended a replay."""


class ReplayWatch:
    """Follows a replay.

    `tell` gets sentences for users. `wait` returns once no user wants a pause. `stops` ends the run
    if a user has asked for that, and returns whether it did.
    """

    def __init__(
        self, tell: Callable[[str], None], wait: Callable[[], None], stops: Callable[[], bool]
    ) -> None:
        self._tell, self._wait, self._stops = tell, wait, stops

    def follow(self, chunks: Iterator[Chunk], indices: Sequence[int]) -> Iterator[Chunk]:
        """The chunks of these `indices`, as they come; after a Stop, an end for `until_stopped`."""
        began, is_told = time.monotonic(), False
        for done, chunk in enumerate(chunks):
            waits_from = time.monotonic()
            self._wait()
            began += time.monotonic() - waits_from
            if self._stops():
                raise _Stopped
            took_s = time.monotonic() - began
            if done and took_s >= TELL_AFTER_S and not is_told:
                is_told, left_s = True, took_s / done * (len(indices) - done)
                self._tell(
                    f"The model reads the {len(indices):,} chunks before this one again, since "
                    "what it remembered is not there or has changed. That takes another "
                    f"{time_label(left_s, tenths=False)}; then the shot goes on."
                )
            yield chunk
        if is_told:
            self._tell("The model has read all chunks again; the shot goes on.")


def until_stopped(chunks: Iterator[Chunk]) -> Iterator[Chunk]:
    """New chunks; none if a Stop ends the replay before them."""
    with suppress(_Stopped):
        yield from chunks
