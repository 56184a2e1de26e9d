"""What a rollout costs, before it runs, and which of its histories are exact."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import islice

import torch

from ..attention.cache_policy import capacity
from ..model.config import DiTConfig
from .cache_plan import CachePlan, cache_plans, planned_bytes
from .guidance import Ages, Branch, Guidance, Sink
from .rollout import by_chunk
from .settings import RolloutSettings


@dataclass(frozen=True, slots=True)
class Cost:
    """Evaluations of the model for one chunk once there is a history, and all caches' bytes."""

    steps: int
    commits: int
    kv_bytes: int

    @property
    def evaluations(self) -> int:
        """Of every branch at every step, and of the commits."""
        return self.steps + self.commits


def cost(settings: RolloutSettings, config: DiTConfig, dtype: torch.dtype) -> Cost:
    """The cost of a chunk with a full window behind it."""
    made = list(islice(by_chunk(settings.noise_rows(settings.origin)), 2))
    steps = (
        sum(_evaluated(settings.guidance, row.now, row.steps) for row in made[-1]) if made else 0
    )
    plans = cache_plans(settings, config, dtype)
    commits = sum(_commits(settings, plan) for plan in plans)
    return Cost(steps, commits, planned_bytes(settings, config, dtype))


def without_guidance(settings: RolloutSettings) -> RolloutSettings:
    """The same rollout of the prompt alone, to compare with."""
    return replace(settings, guidance=Guidance())


def histories_used(settings: RolloutSettings) -> str:
    """Every branch with its weight and, where it is not exact, why; then scores. For the report."""
    guidance = settings.guidance
    scores = [f"{p.weight:g} x {type(p.score).__name__.lower()} score" for p in guidance.pulls]
    return "; ".join([*(_branch(settings, branch) for branch in guidance.branches), *scores])


def _evaluated(guidance: Guidance, levels: tuple[float, ...], steps: tuple[int, ...]) -> int:
    """How many branches a row evaluates."""
    weights = [guidance.weights(*at, started=True) for at in zip(levels, steps, strict=True)]
    by_branch = zip(guidance.all_branches, zip(*weights, strict=True), strict=True)
    compared = guidance.limits.need_base
    return sum(any(w) or (compared and guidance.is_base(branch)) for branch, w in by_branch)


def _commits(settings: RolloutSettings, plan: CachePlan) -> int:
    """Evaluations that fill one cache for a chunk; pure noise is made once, not for each."""
    if plan.filled == "by commits":
        return len(plan.rows)
    if plan.filled == "with noise":
        return 0
    frames = capacity(plan.policy, settings.length)
    return len(plan.rows) * -(-frames // settings.schedule.chunk_frames)


def _branch(settings: RolloutSettings, branch: Branch) -> str:
    name = f"{branch.weight:g} x {branch.view}"
    if branch.prompt == "negative":
        name += ", negative prompt"
    reason = _inexact(settings, branch)
    return f"{name} (approximate: {reason})" if reason else name


def _inexact(settings: RolloutSettings, branch: Branch) -> str | None:
    """Why what a branch sees is not what passing it alone through the model would give."""
    view = branch.view
    if view.pure_noise or view.rebuilt:
        return None
    if view.committed_with not in (None, branch.prompt):
        return "its history was committed with the other prompt"
    if isinstance(view.seen, Sink) and settings.cache.sink_frames % settings.schedule.chunk_frames:
        return "the sink's keys remember the rest of its chunk"
    if isinstance(view.seen, Ages):
        return "cut out of a longer history, which its keys remember"
    limit = settings.cache.limit
    evicts = limit is not None and (settings.length is None or settings.length > limit)
    return "the window's keys remember evicted frames" if evicts and view.level == 0 else None
