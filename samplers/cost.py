"""What a rollout costs, before it runs, and which of its histories are exact."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import islice, pairwise

import torch

from ..attention.cache_policy import capacity
from ..model.config import DiTConfig
from .cache_plan import CachePlan, cache_plans, planned_bytes, source
from .guidance import Ages, Branch, Guidance, Nothing, Prompt, Sink
from .guidance.prompt import told
from .rollout import by_chunk
from .settings import RolloutSettings

ROUNDING = 1e-9


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
    """The cost of a chunk with a full window behind it, or of the only one there is."""
    made = list(islice(by_chunk(settings.noise_rows(settings.origin)), 2))
    alone = len(made) == 1 and settings.origin == 0  # never a history
    evaluated = _evaluated_alone if alone else _evaluated
    steps = sum(evaluated(settings.guidance, row.now, row.steps) for row in made[-1]) if made else 0
    plans = cache_plans(settings, config, dtype)
    commits = 0 if alone else sum(_commits(settings, plan) for plan in plans)
    return Cost(steps, commits, planned_bytes(settings, config, dtype))


def without_guidance(settings: RolloutSettings) -> RolloutSettings:
    """The same rollout of the prompt alone, to compare with."""
    return replace(settings, guidance=Guidance())


def evaluated(guidance: Guidance) -> str:
    """The branches of a guidance with their weights."""
    branches = guidance.branches
    many = "1 model evaluation" if len(branches) == 1 else f"{len(branches)} model evaluations"
    return f"{many} a step: {'; '.join(map(_weighted, branches))}."


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


def _evaluated_alone(guidance: Guidance, levels: tuple[float, ...], steps: tuple[int, ...]) -> int:
    """The same without a history: branches of one prompt are one."""
    weights = [guidance.weights(*at, started=False) for at in zip(levels, steps, strict=True)]
    sums: dict[Prompt, list[float]] = {}
    for branch, of_branch in zip(guidance.all_branches, zip(*weights, strict=True), strict=True):
        before = sums.setdefault(branch.prompt, [0.0] * len(of_branch))
        sums[branch.prompt] = [a + b for a, b in zip(before, of_branch, strict=True)]
    needed = {
        prompt for prompt, of_frames in sums.items() if any(abs(w) > ROUNDING for w in of_frames)
    }
    if guidance.limits.need_base:
        needed.add(guidance.base)
    return len(needed)


def _commits(settings: RolloutSettings, plan: CachePlan) -> int:
    """Evaluations that fill one cache for a chunk; pure noise is made once, not for each."""
    if plan.filled == "by commits":
        return len(plan.rows)
    if plan.filled == "with noise":
        return 0
    groups = _groups_held(settings)
    chosen = plan.seen.ranks(len(groups), settings.cache.sink_frames)
    return len(plan.rows) * len({groups[rank] for rank in chosen})


def _groups_held(settings: RolloutSettings) -> list[int]:
    """Of each latent frame that the history holds before the last chunk, or once the window is
    full, the first frame of its commit; oldest first.
    """
    policy, size = settings.cache, settings.schedule.chunk_frames
    last = 2 * size + capacity(policy, settings.length)
    if settings.length is not None:
        last = min(last, settings.length - 1)
    starts = [at for at in _commit_starts(settings, last + 1) if at <= last]
    frames, groups = list[int](), list[int]()
    for start, stop in pairwise(starts):
        frames += range(start, stop)
        groups += [start] * (stop - start)
        while policy.limit is not None and len(frames) > policy.limit:
            victim = policy.victim(frames)
            del frames[victim], groups[victim]
    return groups


def _commit_starts(settings: RolloutSettings, stop: int) -> list[int]:
    """The first frame of every commit before `stop`: given frames at the front are cut so that the
    first chunk that is made is a whole one.
    """
    size = settings.schedule.chunk_frames
    return sorted({0, *range(settings.origin % size, stop, size)})


def _branch(settings: RolloutSettings, branch: Branch) -> str:
    reason = _inexact(settings, branch)
    return f"{_weighted(branch)} (approximate: {reason})" if reason else _weighted(branch)


def _weighted(branch: Branch) -> str:
    return ", ".join(filter(None, (f"{branch.weight:g} x {branch.view}", told(branch.prompt))))


def _inexact(settings: RolloutSettings, branch: Branch) -> str | None:
    """Why what a branch sees is not what passing it alone through the model would give."""
    view, cache = branch.view, settings.cache
    if view.pure_noise or view.rebuilt or isinstance(view.seen, Nothing):
        return None
    if view.committed_with not in (None, branch.prompt):
        return "its history was committed with the other prompt"
    if isinstance(view.seen, Ages):
        return "cut out of a longer history, which its keys remember"
    evicts = cache.limit is not None and settings.length not in range(cache.limit + 1)
    averaged = evicts and cache.averaged_frames > 0
    if isinstance(view.seen, Sink):
        whole = cache.sink_frames in _commit_starts(settings, cache.sink_frames + 1)
        if not whole:
            return "the sink's keys remember the rest of its chunk"
        return "the sink's keys are averages" if averaged else None
    if not evicts or source(view, settings)[0] == "anew":
        return None
    averages = ", and the sink's are averages" if averaged else ""
    return f"the window's keys remember evicted frames{averages}"
