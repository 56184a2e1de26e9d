"""The latent frames in the history once its window is full, in closed form."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import overload

from ...attention.cache.policy import capacity
from ..guidance import AgeRange
from ..settings import RolloutSettings


@dataclass(frozen=True, slots=True)
class HeldFrames(Sequence[int]):
    """The numbers of the latent frames in a history, oldest first: the sink's, then the newest."""

    sink: range
    newest: range

    def __len__(self) -> int:
        return len(self.sink) + len(self.newest)

    @overload
    def __getitem__(self, rank: int) -> int: ...
    @overload
    def __getitem__(self, rank: slice) -> HeldFrames: ...
    def __getitem__(self, rank: int | slice) -> int | HeldFrames:
        if isinstance(rank, slice):
            sink = len(self.sink)
            first, stop, _ = rank.indices(len(self))
            behind = slice(max(0, first - sink), max(0, stop - sink))
            return HeldFrames(self.sink[first:stop], self.newest[behind])
        from_front = range(len(self))[rank]
        beyond = from_front - len(self.sink)
        return self.sink[from_front] if beyond < 0 else self.newest[beyond]

    def __iter__(self) -> Iterator[int]:
        yield from self.sink
        yield from self.newest


def steady_state_frames(settings: RolloutSettings) -> HeldFrames:
    """The frames in the history once the window is full, or before the last chunk."""
    return held_before(settings, steady_chunk(settings))


def steady_chunk(settings: RolloutSettings) -> int:
    """The first latent frame of a chunk from which on each view sees as much, or of the last one.

    The window is full by then, and no sink is as young as a view by age.
    """
    views = [branch.view.frames for branch in settings.guidance.all_branches]
    oldest = max((view.oldest for view in views if isinstance(view, AgeRange)), default=0)
    full = max(capacity(settings.cache, settings.length), settings.cache.sink_frames + oldest)
    last = 2 * settings.schedule.chunk_frames + max(full, settings.origin)
    if settings.length is not None:
        last = min(last, settings.length - 1)
    return commit_start(settings, last)


def held_before(settings: RolloutSettings, first: int, flushed: int = 0) -> HeldFrames:
    """The frames in the history of the chunk at latent frame `first`.

    A window evicts the oldest frame outside its sink, so what remains is the sink and the newest.
    A change of prompt that `flushed` the history before that frame left the newest one then.
    """
    limit, sink = settings.cache.limit, settings.cache.sink_frames
    evicted = 0 if limit is None else first - limit + sink
    oldest = max(evicted, flushed - 1)
    if oldest <= sink:
        return HeldFrames(range(0), range(first))
    return HeldFrames(range(sink), range(oldest, first))


def commit_start(settings: RolloutSettings, frame: int) -> int:
    """The first latent frame of the commit that `frame` belongs to.

    Given frames at the front are divided so that the first generated chunk is a whole one. Without
    them the first chunk itself may be shorter.
    """
    size = settings.schedule.chunk_frames
    first = settings.chunk_base % size
    return 0 if frame < first else frame - (frame - first) % size


def count_commits(settings: RolloutSettings, frames: HeldFrames) -> int:
    """The number of commits that `frames` belong to."""
    parts = [part for part in (frames.sink, frames.newest) if part]
    numbers = [
        (_commit_number(settings, part[0]), _commit_number(settings, part[-1])) for part in parts
    ]
    total = sum(last - first + 1 for first, last in numbers)
    shared = len(numbers) == 2 and numbers[0][1] == numbers[1][0]
    return total - shared


def _commit_number(settings: RolloutSettings, frame: int) -> int:
    size = settings.schedule.chunk_frames
    return -(-commit_start(settings, frame) // size)
