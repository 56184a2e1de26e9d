"""Policies of windows whose frames are at other places than next to one another."""

from __future__ import annotations

from dataclasses import dataclass

from .policy import WindowSink


@dataclass(frozen=True, slots=True)
class DistantSink(WindowSink):
    """A window whose sink stays where it was in time, ever further away (LongLive 1.0).

    The sink of an ordinary window is always next to the frames that follow it.
    """

    @property
    def window_follows_sink(self) -> bool:
        """False: the gap behind the sink grows."""
        return False

    @property
    def keeps_distances(self) -> bool:
        """True: a gap opens behind the sink."""
        return True

    def when_rebuilt(self) -> DistantSink:
        """The same policy: distances need no memory."""
        return self


@dataclass(frozen=True, slots=True)
class SharedWindow(WindowSink):
    """A window that the frames of a pass share with the history (Rolling Forcing).

    A pass sees at most `window_frames`, its own included. While denoising it sees the sink, moved
    next to the newest frames that fit; a commit sees the newest frames, and no sink as such.
    """

    @property
    def window_follows_sink(self) -> bool:
        """False: what a pass sees depends on its own frames."""
        return False

    @property
    def moves_keys(self) -> bool:
        """True: how far the sink is moved depends on the number of active frames."""
        return True

    def when_rebuilt(self) -> SharedWindow:
        """The same policy: sharing needs no memory."""
        return self

    def ranks_seen(self, count: int, active: int) -> list[int]:
        """The ranks, oldest first, that `active` frames see of `count` ones while denoising."""
        sink = min(self.sink_frames, count)
        room = max(0, self.window_frames - self.sink_frames - active)
        return [*range(sink), *range(max(sink, count - room), count)]

    def oldest_seen(self, first: int, active: int) -> int:
        """The oldest frame that `active` ones from `first` on see when they are committed."""
        return first + active - self.window_frames
