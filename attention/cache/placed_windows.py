"""Policies of windows whose frames are at other places than next to one another."""

from __future__ import annotations

from collections.abc import Sequence
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

    def sink_distance(self, sink: int, others: int) -> int:
        """How many latent frames before the active ones a `sink` begins, beside `others` seen."""
        return sink + others

    def seen_by_commit(self, frames: Sequence[int], first: int, active: int) -> list[int]:
        """The held `frames` that `active` ones from `first` on see when they are committed."""
        return [frame for frame in frames if frame >= first + active - self.window_frames]

    def commit_places(self, seen: Sequence[int], first: int) -> list[int]:
        """How many latent frames before `first` a commit finds each of the frames `seen`."""
        return [*range(len(seen), 0, -1)]


@dataclass(frozen=True, slots=True)
class AnchorWindow(SharedWindow):
    """A window whose sink is near for denoising and far for commits (AvatarForcing).

    Every pass sees all `window_frames`, however many frames it has of its own. While denoising it
    finds the sink next to the newest frames. A commit finds the sink where that was in time.
    """

    def when_rebuilt(self) -> AnchorWindow:
        """The same policy: places need no memory."""
        return self

    def ranks_seen(self, count: int, active: int) -> list[int]:
        """All ranks, since `count` frames are held and all of them are seen."""
        return [*range(count)]

    def seen_by_commit(self, frames: Sequence[int], first: int, active: int) -> list[int]:
        """All of the held `frames`, sink and newest ones."""
        return [*frames]

    def commit_places(self, seen: Sequence[int], first: int) -> list[int]:
        """As many as there are between them in the shot."""
        return [first - frame for frame in seen]


@dataclass(frozen=True, slots=True)
class WaveWindow(SharedWindow):
    """A shared window as WaveForcing's runtime counts it: without the newest finished chunk.

    That chunk is committed while later ones are denoised, and comes on top; a sink is one chunk
    too. So denoising sees `window_frames`, of which the oldest behind the sink have the same
    places in time as the sink. A commit sees the sink too, and `sink_frames` fewer in all.
    """

    def when_rebuilt(self) -> WaveWindow:
        """The same policy: sharing needs no memory."""
        return self

    def sink_distance(self, sink: int, others: int) -> int:
        """As far as the oldest of the `others`, whose places the sink shares."""
        return max(sink, others)

    def seen_by_commit(self, frames: Sequence[int], first: int, active: int) -> list[int]:
        """The sink, and the newest that fit beside sink and active frames."""
        room = max(0, self.window_frames - 2 * self.sink_frames - active)
        return [frame for frame in frames if frame < self.sink_frames or frame >= first - room]
