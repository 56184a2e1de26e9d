"""What a chunk costs, found by walking the shot: the reference for plans in closed form."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import pairwise

import torch

from longtake.attention.cache.policy import capacity
from longtake.model.config import DiTConfig
from longtake.samplers.guidance import AgeRange, Branch, Prompt
from longtake.samplers.history.plan import CachePlan, cache_plans
from longtake.samplers.history.selection import CacheSelection, select
from longtake.samplers.loop import by_chunk
from longtake.samplers.schedule.rows import StaggeredSchedule
from longtake.samplers.settings import RolloutSettings
from longtake.tests.support.samplers.schedule_walk import walk_rows


def walk_history(settings: RolloutSettings) -> list[tuple[int, int]]:
    """The frames of a full history and the first frame of their commits, commit by commit."""
    policy, size = settings.cache, settings.schedule.chunk_frames
    views = [branch.view.frames for branch in settings.guidance.all_branches]
    oldest = max((view.oldest for view in views if isinstance(view, AgeRange)), default=0)
    full = max(capacity(policy, settings.length), policy.sink_frames + oldest, settings.origin)
    last = 2 * size + full
    if settings.length is not None:
        last = min(last, settings.length - 1)
    return [*_histories(settings, last)][-1]


def _histories(settings: RolloutSettings, last: int) -> Iterator[list[tuple[int, int]]]:
    """The history before each chunk up to the one of latent frame `last`."""
    policy, size = settings.cache, settings.schedule.chunk_frames
    assert isinstance(settings.schedule, StaggeredSchedule)
    whole = settings.origin or settings.schedule.first_frames  # from here on chunks are whole
    begins = sorted({0, *range(whole % size, last + 1, size)})
    history = list[tuple[int, int]]()
    yield [*history]
    for start, stop in pairwise(at for at in begins if at <= last):
        history += [(frame, start) for frame in range(start, stop)]
        while policy.limit is not None and len(history) > policy.limit:
            del history[policy.victim([frame for frame, _ in history])]
        yield [*history]


def walk_evaluations(settings: RolloutSettings, config: DiTConfig) -> int:
    """The evaluations of a chunk with a full window, or of the last one.

    Every latent frame of every row counts for itself.
    """
    s = settings.at(settings.origin)
    assert isinstance(s.schedule, StaggeredSchedule)
    chunks = list(by_chunk(walk_rows(s.schedule, s.origin, s.length, s.origin)))
    full = walk_history(s)
    rows = [chunk for chunk in chunks if chunk[0].first <= (full[-1][0] + 1 if full else 0)][-1]
    histories = [history for history in _histories(s, rows[0].first) if history or not s.origin]
    begun = [chunk[0].first for chunk in chunks if chunk[0].first <= rows[0].first]
    made = [history for history in histories if (history[-1][0] + 1 if history else 0) in begun]
    plans, history = cache_plans(s, config, torch.float32), made[-1]
    frames = [frame for frame, _ in history]
    read, steps = set[int](), 0
    for row in rows:
        views = [*_views(s, plans, frames, [*zip(row.now, row.steps, strict=True)])]
        read |= {chosen.cache for _, chosen, _ in views if not chosen.is_nothing}
        steps += len({(prompt, chosen) for prompt, chosen, counts in views if counts})
    commits = 0
    for i, plan in enumerate(plans):
        if plan.fill_mode == "committed" or i in read:
            commits += len(plan.rows) * _commits(s, plan, made)
    return steps + commits


def _views(
    settings: RolloutSettings,
    plans: tuple[CachePlan, ...],
    frames: list[int],
    at: list[tuple[float, int]],
) -> Iterator[tuple[Prompt, CacheSelection, bool]]:
    """What branches with a weight look at, and whether that is evaluated."""
    committed = frames[-1] + 1 if frames else 0

    def seen(branch: Branch) -> tuple[Prompt, CacheSelection]:
        return branch.prompt, select(branch, plans, settings, frames, committed)

    guidance = settings.guidance
    weights = [guidance.weights(level, step, started=bool(frames)) for level, step in at]
    branches = guidance.all_branches
    for number, branch in enumerate(branches):
        if any(of_frame[number] for of_frame in weights):
            view = seen(branch)
            totals = (
                sum(w for w, other in zip(of_frame, branches, strict=True) if seen(other) == view)
                for of_frame in weights
            )
            yield *view, any(abs(total) > 1e-9 for total in totals)
    if guidance.limits.need_base:
        yield *seen(Branch(0.0, guidance.base)), True


def _commits(
    settings: RolloutSettings, plan: CachePlan, histories: list[list[tuple[int, int]]]
) -> int:
    """The passes that fill a cache for the last of the chunks with these histories before them."""
    history = histories[-1]
    if plan.fill_mode == "committed":
        return bool(history)
    if plan.fill_mode == "noise":
        return _noise_passes(settings, histories)
    frames = [frame for frame, _ in history]
    ranks = plan.frames.ranks(frames, settings.cache.sink_frames)
    return len({history[rank][1] for rank in ranks})


def _noise_passes(settings: RolloutSettings, histories: list[list[tuple[int, int]]]) -> int:
    """Chunk by chunk, what pure noise is passed to be as long as the history of the last one."""
    passes = done = 0
    size = settings.schedule.chunk_frames
    for count in map(len, histories):
        passes = math.ceil((count if (count - done) % size else count - done) / size)
        done = count
    return passes
