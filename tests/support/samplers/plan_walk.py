"""What a chunk costs, found by walking the shot: the reference for plans in closed form."""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from itertools import islice, pairwise

import torch

from longtake.attention.cache.policy import capacity
from longtake.model.config import DiTConfig
from longtake.samplers.guidance import Branch
from longtake.samplers.history.plan import CachePlan, cache_plans
from longtake.samplers.history.selection import select
from longtake.samplers.loop import by_chunk
from longtake.samplers.schedule.rows import StaggeredSchedule
from longtake.samplers.settings import RolloutSettings
from longtake.tests.support.samplers.schedule_walk import walk_rows


def walk_history(settings: RolloutSettings) -> list[tuple[int, int]]:
    """The frames of a full history and the first frame of their commits, commit by commit."""
    policy, size = settings.cache, settings.schedule.chunk_frames
    last = 2 * size + capacity(policy, settings.length)
    if settings.length is not None:
        last = min(last, settings.length - 1)
    begins = sorted({0, *range(settings.origin % size, last + 1, size)})
    history = list[tuple[int, int]]()
    for start, stop in pairwise(at for at in begins if at <= last):
        history += [(frame, start) for frame in range(start, stop)]
        while policy.limit is not None and len(history) > policy.limit:
            del history[policy.victim([frame for frame, _ in history])]
    return history


def walk_evaluations(settings: RolloutSettings, config: DiTConfig) -> int:
    """The evaluations of a chunk, every latent frame of every row counted for itself."""
    s = settings.at(settings.origin)
    assert isinstance(s.schedule, StaggeredSchedule)
    chunks = list(islice(by_chunk(walk_rows(s.schedule, s.origin, s.length, s.origin)), 2))
    plans, history = cache_plans(s, config, torch.float32), walk_history(s)
    alone = len(chunks) == 1 and s.origin == 0
    frames = [] if alone else [frame for frame, _ in history]
    rows = chunks[-1] if chunks else []
    steps = sum(
        len(set(_views(s, plans, frames, [*zip(row.now, row.steps, strict=True)], alone=alone)))
        for row in rows
    )
    return steps + (0 if alone else sum(_commits(s, plan, history) for plan in plans))


def _views(
    settings: RolloutSettings,
    plans: tuple[CachePlan, ...],
    frames: list[int],
    at: list[tuple[float, int]],
    *,
    alone: bool,
) -> Iterator[Hashable]:
    def seen(branch: Branch) -> Hashable:
        if alone:
            return branch.prompt
        committed = frames[-1] + 1 if frames else 0
        return branch.prompt, select(branch, plans, settings, frames, committed)

    guidance = settings.guidance
    weights = [guidance.weights(level, step, started=not alone) for level, step in at]
    branches = guidance.all_branches
    for view in {seen(branch) for branch in branches}:
        totals = (
            sum(w for w, branch in zip(of_frame, branches, strict=True) if seen(branch) == view)
            for of_frame in weights
        )
        if any(abs(total) > 1e-9 for total in totals):
            yield view
    if guidance.limits.need_base:
        yield seen(Branch(0.0, guidance.base))


def _commits(settings: RolloutSettings, plan: CachePlan, history: list[tuple[int, int]]) -> int:
    if plan.fill_mode == "noise":
        return 0
    if plan.fill_mode == "committed":
        return len(plan.rows)
    frames = [frame for frame, _ in history]
    ranks = plan.frames.ranks(frames, settings.cache.sink_frames)
    return len(plan.rows) * len({history[rank][1] for rank in ranks})
