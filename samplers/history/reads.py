"""What of the KV caches a branch reads, said without them: a run and its cost ask the same."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from ...attention.cache.policy import capacity
from ..guidance import All, Branch
from ..settings import RolloutSettings
from .plan import CachePlan, row_of, source


@dataclass(frozen=True, slots=True)
class Read:
    """A row of a cache and, if not all of it, the ranks of what is seen among all held frames,
    oldest first; none of them is no history at all. `at` is the first active frame's position.
    """

    cache: int
    row: int
    ranks: range | None
    at: int

    @property
    def is_nothing(self) -> bool:
        """Whether no history is seen."""
        return self.ranks is not None and not self.ranks


def read_of(
    branch: Branch,
    plans: Sequence[CachePlan],
    settings: RolloutSettings,
    frames: Sequence[int],
    committed: int,
) -> Read:
    """What `branch` reads while latent `frames`, oldest first, are held of `committed` ones."""
    held, view = len(frames), branch.view
    ranks = view.seen.ranks(frames, settings.cache.sink_frames)
    if not ranks:
        return Read(0, 0, ranks, held)
    index = _cache_of(branch, plans, settings, whole=len(ranks) == committed)
    plan = plans[index]
    row = plan.rows.index(row_of(branch))
    if not isinstance(plan.seen, All):  # a cache of just this part
        return Read(index, row, None, held - ranks.start)
    beside = plan.policy.beside_frames and not isinstance(view.seen, All)
    return Read(index, row, None if len(ranks) == held and not beside else ranks, held)


def _cache_of(
    branch: Branch, plans: Sequence[CachePlan], settings: RolloutSettings, *, whole: bool
) -> int:
    """The cache a branch reads; where nothing is left out, a cut is exact."""
    if branch.view.rebuilt and whole and row_of(branch) in plans[0].rows:
        return 0
    wanted = source(branch.view, settings)
    return next(i for i, plan in enumerate(plans) if (plan.filled, plan.seen) == wanted)


FrameAndCommit = tuple[int, int]
"""A latent frame of the history, and the first of those that were committed with it."""


def steady_state_frames(settings: RolloutSettings) -> list[FrameAndCommit]:
    """The latent frames that the history holds before the last chunk, or once the window is full,
    oldest first.
    """
    policy, size = settings.cache, settings.schedule.chunk_frames
    last = 2 * size + capacity(policy, settings.length)
    if settings.length is not None:
        last = min(last, settings.length - 1)
    starts = [at for at in commit_starts(settings, last + 1) if at <= last]
    held = list[FrameAndCommit]()
    for start, stop in pairwise(starts):
        held += [(frame, start) for frame in range(start, stop)]
        while policy.limit is not None and len(held) > policy.limit:
            del held[policy.victim([frame for frame, _ in held])]
    return held


def commit_starts(settings: RolloutSettings, stop: int) -> list[int]:
    """The first frame of every commit before `stop`: given frames at the front are cut so that the
    first chunk that is made is a whole one.
    """
    size = settings.schedule.chunk_frames
    return sorted({0, *range(settings.origin % size, stop, size)})
