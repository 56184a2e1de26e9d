"""What a rollout costs, before it runs, and which of its histories are exact."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice

import torch

from ...model.config import DiTConfig
from ..guidance import AgeRange, Branch, Guidance, Nothing, Sink
from ..guidance.prompt import told
from ..history.plan import CachePlan, cache_plans, planned_bytes, source
from ..history.selection import FrameAndCommit, commit_starts, select, steady_state_frames
from ..loop import by_chunk
from ..schedule.rows import Row
from ..settings import RolloutSettings

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
    """The cost of a chunk with a full window behind it, or of the only one there is, by the
    guidance of the beginning.
    """
    s = settings.at(settings.origin)
    made = list(islice(by_chunk(s.noise_rows(s.origin)), 2))
    alone = len(made) == 1 and s.origin == 0  # never a history
    plans = cache_plans(s, config, dtype)
    seen = _same_without_history if alone else partial(_read, s, plans, steady_state_frames(s))
    rows = made[-1] if made else ()
    steps = sum(_evaluated(s.guidance, row, seen, started=not alone) for row in rows)
    commits = 0 if alone else sum(_commits(s, plan) for plan in plans)
    return Cost(steps, commits, planned_bytes(s, config, dtype))


def dearest(settings: RolloutSettings, config: DiTConfig, dtype: torch.dtype) -> int:
    """The evaluations of the dearest chunk: guidance may change, and prompts, for each of which
    pure noise is passed again.
    """
    in_force = [settings, *(settings.at(one.start_frame) for one in settings.guidance_changes)]
    most = max(cost(one, config, dtype).evaluations for one in in_force)
    return most + (_refill(settings, config, dtype) if len(settings.prompts.entries) > 1 else 0)


def without_guidance(settings: RolloutSettings) -> RolloutSettings:
    """The same rollout of the prompt alone, to compare with."""
    return replace(settings, guidance=Guidance(), guidance_changes=())


def evaluated(guidance: Guidance) -> str:
    """The branches of a guidance with their weights."""
    branches = guidance.summed
    many = "1 model evaluation" if len(branches) == 1 else f"{len(branches)} model evaluations"
    return f"{many} a step: {'; '.join(map(_weighted, branches))}."


def histories_used(settings: RolloutSettings) -> str:
    """Every branch with its weight and, where it is not exact, why; then scores; then the same of
    every change of guidance. For the report.
    """
    begun = settings.at(settings.origin)
    changes = [one for one in settings.guidance_changes if one.start_frame > settings.origin]
    later = [
        f"from latent frame {one.start_frame}: {_used(settings.at(one.start_frame))}"
        for one in changes
    ]
    return "; ".join([_used(begun), *later])


def _used(settings: RolloutSettings) -> str:
    guidance, frames = settings.guidance, [frame for frame, _ in steady_state_frames(settings)]
    scores = [
        f"{p.weight:g} x {type(p.score).__name__.lower()} score" for p in guidance.weighted_scores
    ]
    return "; ".join([*(_branch(settings, one, frames) for one in guidance.summed), *scores])


Seen = Callable[[Branch], Hashable]
"""What a branch sees: of those that see the same, one is evaluated."""


def _same_without_history(branch: Branch) -> Hashable:
    return branch.prompt


def _read(
    settings: RolloutSettings,
    plans: Sequence[CachePlan],
    held: Sequence[FrameAndCommit],
    branch: Branch,
) -> Hashable:
    frames = [frame for frame, _ in held]
    committed = frames[-1] + 1 if frames else 0
    return branch.prompt, select(branch, plans, settings, frames, committed)


def _evaluated(guidance: Guidance, row: Row, seen: Seen, *, started: bool) -> int:
    """How many branches a row evaluates."""
    by_step = zip(row.now, row.steps, strict=True)
    weights = [guidance.weights(*at, started=started) for at in by_step]
    sums: dict[Hashable, list[float]] = {}
    for branch, of_branch in zip(guidance.all_branches, zip(*weights, strict=True), strict=True):
        before = sums.setdefault(seen(branch), [0.0] * len(of_branch))
        sums[seen(branch)] = [a + b for a, b in zip(before, of_branch, strict=True)]
    needed = {one for one, of_frames in sums.items() if any(abs(w) > ROUNDING for w in of_frames)}
    if guidance.limits.need_base:
        needed.add(seen(Branch(0.0, guidance.base)))
    return len(needed)


def _refill(settings: RolloutSettings, config: DiTConfig, dtype: torch.dtype) -> int:
    """Evaluations that pass pure noise for as many latent frames as the history has."""
    rows = sum(
        len(plan.rows) for plan in cache_plans(settings, config, dtype) if plan.fill_mode == "noise"
    )
    return rows * math.ceil(len(steady_state_frames(settings)) / settings.schedule.chunk_frames)


def _commits(settings: RolloutSettings, plan: CachePlan) -> int:
    """Evaluations that fill one cache for a chunk; pure noise is made once, not for each."""
    if plan.fill_mode == "committed":
        return len(plan.rows)
    if plan.fill_mode == "noise":
        return 0
    held = steady_state_frames(settings)
    chosen = plan.seen.ranks([frame for frame, _ in held], settings.cache.sink_frames)
    return len(plan.rows) * len({held[rank][1] for rank in chosen})


def _branch(settings: RolloutSettings, branch: Branch, frames: Sequence[int]) -> str:
    reason = _inexact(settings, branch, frames)
    return f"{_weighted(branch)} (approximate: {reason})" if reason else _weighted(branch)


def _weighted(branch: Branch) -> str:
    return ", ".join(filter(None, (f"{branch.weight:g} x {branch.view}", told(branch.prompt))))


def _inexact(settings: RolloutSettings, branch: Branch, frames: Sequence[int]) -> str | None:
    """Why what a branch sees, of the `frames` that are held at last, is not what passing it alone
    through the model would give.
    """
    view, cache = branch.view, settings.cache
    if view.pure_noise or view.rebuilt or isinstance(view.seen, Nothing):
        return None
    if view.committed_with not in (None, branch.prompt):
        return "its history was committed with the other prompt"
    if isinstance(view.seen, AgeRange):
        seen = view.seen.ranks(frames, cache.sink_frames)
        if frames and not seen:
            return "nothing, since it is older than the window"
        if seen and len(seen) == cache.limit:
            return "it is all that the window holds"
        return "cut out of a longer history, which its keys remember"
    evicts = cache.limit is not None and settings.length not in range(cache.limit + 1)
    averaged = evicts and cache.averaged_frames > 0
    if isinstance(view.seen, Sink):
        whole = cache.sink_frames in commit_starts(settings, cache.sink_frames + 1)
        if not whole:
            return "the sink's keys remember the rest of its chunk"
        return "the sink's keys are averages" if averaged else None
    if not evicts or source(view, settings)[0] == "rebuilt":
        return None
    averages = ", and the sink's are averages" if averaged else ""
    return f"the window's keys remember evicted frames{averages}"


def idle_views(settings: RolloutSettings) -> list[str]:
    """What of the guidance sees all of the window, or nothing at all, once that is full; a sentence
    each.
    """
    cache, frames = settings.cache, [frame for frame, _ in steady_state_frames(settings)]
    if cache.limit is None or len(frames) < cache.limit:
        return []
    found = []
    for view in dict.fromkeys(branch.view for branch in settings.guidance.summed):
        seen = view.seen
        if not isinstance(seen, AgeRange):
            continue
        ranks = seen.ranks(frames, cache.sink_frames)
        if not ranks:
            found.append(
                f"Guidance by {seen} sees nothing: that is older than the window of {cache.limit} "
                "latent frames; choose a nearer range or a longer window."
            )
        elif len(ranks) == len(frames) and view.level == 0 and not view.exact:
            found.append(
                f"Guidance by {seen} changes nothing: that is all of the window of {cache.limit} "
                "latent frames; choose fewer (short_frames, oldest) or a longer window."
            )
    return found
