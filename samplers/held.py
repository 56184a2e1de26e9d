"""Which latent frames the history of a rollout holds, known before anything runs."""

from __future__ import annotations

from itertools import pairwise

from ..attention.cache.policy import capacity
from .settings import RolloutSettings

Grouped = tuple[int, int]
"""A latent frame of the history, and the first of those that were committed with it."""


def held_at_last(settings: RolloutSettings) -> list[Grouped]:
    """The latent frames that the history holds before the last chunk, or once the window is full,
    oldest first.
    """
    policy, size = settings.cache, settings.schedule.chunk_frames
    last = 2 * size + capacity(policy, settings.length)
    if settings.length is not None:
        last = min(last, settings.length - 1)
    starts = [at for at in commit_starts(settings, last + 1) if at <= last]
    held = list[Grouped]()
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
