"""Which part of the KV caches a branch reads. A run and its cost estimate share these rules."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..guidance import AllFrames, Branch, Prompt
from ..settings import RolloutSettings
from .plan import CachePlan, row_of, source


@dataclass(frozen=True, slots=True)
class CacheSelection:
    """A row of a cache and the ranks that a branch sees among the history's frames, oldest first.

    `ranks` None is the whole cache, empty ranks are no history. `position` is the first active
    frame's.
    """

    cache: int
    row: int
    ranks: range | None
    position: int

    @property
    def is_nothing(self) -> bool:
        """Whether no history is seen."""
        return self.ranks is not None and not self.ranks


@dataclass(frozen=True, slots=True)
class CacheView:
    """A prompt, a row of a cache and the slots that a branch reads; `slots` None is all of them.

    Branches with equal views are one evaluation. `position` is the first active frame's.
    `level_ahead` is the least noise level of known frames ahead; None if none are seen. `skipped`
    are the layers left out, None where all branches that leave out none share a pass.
    """

    prompt: Prompt
    cache: int
    row: int
    slots: tuple[int, ...] | None
    position: int
    level_ahead: float | None = None
    skipped: tuple[int, ...] | None = None

    def continues(self, before: CacheView) -> bool:
        """Whether one attention serves both views: neighbouring rows, or no history at all."""
        ours, theirs = ((v.cache, v.slots, v.position) for v in (self, before))
        return ours == theirs and (self.slots == () or self.row == before.row + 1)


def neighbours(views: Sequence[CacheView]) -> list[list[CacheView]]:
    """The views in runs, each of which one attention serves."""
    runs: list[list[CacheView]] = []
    for view in views:
        if runs and view.continues(runs[-1][-1]):
            runs[-1].append(view)
        else:
            runs.append([view])
    return runs


def select(
    branch: Branch,
    plans: Sequence[CachePlan],
    settings: RolloutSettings,
    frames: Sequence[int],
    committed: int,
) -> CacheSelection:
    """What `branch` reads while the history holds `frames`, oldest first, of `committed` ones."""
    count, view = len(frames), branch.view
    ranks = view.frames.ranks(frames, settings.cache.sink_frames)
    if not ranks:
        return CacheSelection(0, 0, ranks, count)
    index = _cache_of(branch, plans, settings, whole=len(ranks) == committed)
    plan = plans[index]
    row = plan.rows.index(row_of(branch))
    if not isinstance(plan.frames, AllFrames):  # a cache of just this part
        return CacheSelection(index, row, None, _position_behind(plan, frames, ranks, committed))
    beside = plan.policy.extra_frames and not isinstance(view.frames, AllFrames)
    whole = len(ranks) == count and not beside
    return CacheSelection(index, row, None if whole else ranks, count)


def _position_behind(plan: CachePlan, frames: Sequence[int], ranks: range, committed: int) -> int:
    """The first active frame's position for a cache of the history `frames` of those `ranks`."""
    if not plan.policy.keeps_distances:
        return len(frames) - ranks.start
    return len(ranks) + committed - 1 - frames[ranks[-1]]


def _cache_of(
    branch: Branch, plans: Sequence[CachePlan], settings: RolloutSettings, *, whole: bool
) -> int:
    """The cache a branch reads. A cut that leaves nothing out is exact in the first cache."""
    if branch.view.rebuilt and whole and row_of(branch) in plans[0].rows:
        return 0
    key = source(branch.view, settings)
    return next(i for i, plan in enumerate(plans) if (plan.fill_mode, plan.frames) == key)
