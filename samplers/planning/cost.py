"""What a rollout costs before it runs, and which of its histories are exact."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from ...model.forward import ModelConfig
from ...units import count_of
from ..guidance import AgeRange, Branch, Guidance, NoFrames, SinkFrames, View
from ..history.plan import planned_bytes, source
from ..history.steady_state import commit_start, steady_state_frames
from ..settings import RolloutSettings
from .evaluations import ChunkEvaluations, prompt_changes


@dataclass(frozen=True, slots=True)
class Cost:
    """Model evaluations per chunk once there is a history, and the bytes of all caches."""

    steps: int
    commits: int
    kv_bytes: int

    @property
    def evaluations(self) -> int:
        """Evaluations of all branches, steps and commits."""
        return self.steps + self.commits


def cost(
    settings: RolloutSettings, config: ModelConfig, dtype: torch.dtype, histories: int = 1
) -> Cost:
    """The cost of a chunk with a full window, or of the last chunk, under the first guidance.

    Each of the model's `histories` has KV caches and fills of its own.
    """
    begun = settings.at(settings.origin)
    counts = ChunkEvaluations(begun, config, dtype)
    steps, fills = counts.at(counts.typical)
    return Cost(steps, histories * fills, histories * planned_bytes(begun, config, dtype))


def peak_evaluations(
    settings: RolloutSettings, config: ModelConfig, dtype: torch.dtype, histories: int = 1
) -> int:
    """Model evaluations of the most expensive chunk.

    Counts the first chunk, the last ones, those in which the window becomes full, and those where
    guidance, prompt or known frames change.
    """
    counts = ChunkEvaluations(settings, config, dtype, prompt_changes(settings))
    made = map(counts.at, counts.dear)
    return max((steps + histories * fills for steps, fills in made), default=0)


def without_guidance(settings: RolloutSettings) -> RolloutSettings:
    """The same rollout without guidance, for comparison."""
    return replace(settings, guidance=Guidance(), guidance_changes=())


def describe_branches(guidance: Guidance) -> str:
    """Describe the branches of a guidance with their weights."""
    branches = guidance.summed
    many = "1 model evaluation" if len(branches) == 1 else f"{len(branches)} model evaluations"
    parts = [*map(str, branches), *_describe_push(guidance)]
    return f"{many} a step: {'; '.join(parts)}."


def _describe_push(guidance: Guidance) -> list[str]:
    """NAG, if the guidance has it."""
    nag = guidance.normalized_attention
    return [] if nag is None else [str(nag)]


def histories_used(settings: RolloutSettings) -> str:
    """Describe every branch and score for the report.

    Branches that are not exact come with the reason. Every change of guidance is described too.
    """
    begun = settings.at(settings.origin)
    changes = [c for c in settings.guidance_changes if c.start_frame > settings.origin]
    later = [
        f"from latent frame {change.start_frame}: {_describe_use(settings.at(change.start_frame))}"
        for change in changes
    ]
    return "; ".join([_describe_use(begun), *later])


def _describe_use(settings: RolloutSettings) -> str:
    guidance, frames = settings.guidance, steady_state_frames(settings)
    scores = [
        f"{p.weight:g} x {type(p.score).__name__.lower()} score" for p in guidance.weighted_scores
    ]
    branches = [_branch(settings, branch, frames) for branch in guidance.summed]
    return "; ".join([*branches, *_describe_push(guidance), *scores])


def _branch(settings: RolloutSettings, branch: Branch, frames: Sequence[int]) -> str:
    reason = _inexact(settings, branch, frames)
    return f"{branch} (approximate: {reason})" if reason else str(branch)


def _inexact(settings: RolloutSettings, branch: Branch, frames: Sequence[int]) -> str | None:
    """Why the view differs from passing its frames alone through the model; None if exact."""
    view, cache = branch.view, settings.cache
    if view.pure_noise:
        return _inexact_noise(settings, view, frames)
    if view.rebuilt or isinstance(view.frames, NoFrames):
        return None
    if view.commit_prompt not in (None, branch.prompt):
        return "its history was committed with the other prompt"
    if isinstance(view.frames, AgeRange):
        seen = view.frames.ranks(frames, cache.sink_frames)
        if frames and not seen:
            return "nothing, since it is older than the window"
        if seen and len(seen) == cache.limit:
            return "it is all that the window holds"
        return "cut out of a longer history, which its keys remember"
    evicts = _evicts(settings)
    averaged = evicts and cache.averaged_frames > 0
    if isinstance(view.frames, SinkFrames):
        whole = commit_start(settings, cache.sink_frames) == cache.sink_frames
        if not whole:
            return "the sink's keys remember the rest of its chunk"
        return "the sink's keys are averages" if averaged else None
    if not evicts or source(view, settings)[0] == "rebuilt":
        return None
    averages = ", and the sink's are averages" if averaged else ""
    return f"the window's keys remember evicted frames{averages}"


def _inexact_noise(settings: RolloutSettings, view: View, frames: Sequence[int]) -> str | None:
    """Why a view of pure noise is not exact, which passes in chunks from the newest frame back."""
    seen = view.frames.ranks(frames, settings.cache.sink_frames)
    if frames and not seen and isinstance(view.frames, AgeRange):
        return "nothing, since it is older than the window"
    if settings.cache.keeps_distances and _evicts(settings) and 0 in seen:
        return "its noise is without gaps, unlike the history"
    if seen.start > 0:
        return "cut out of longer noise, which its keys remember"
    ends_chunk = (len(frames) - seen.stop) % settings.schedule.chunk_frames == 0
    return None if ends_chunk else "its keys remember the rest of a chunk of noise"


def _evicts(settings: RolloutSettings) -> bool:
    """Whether frames ever leave the window."""
    limit = settings.cache.limit
    return limit is not None and settings.length not in range(limit + 1)


def idle_views(settings: RolloutSettings) -> list[str]:
    """Sentences about views that see nothing, or the whole window, once that is full."""
    cache, frames = settings.cache, steady_state_frames(settings)
    if cache.limit is None or len(frames) < cache.limit:
        return []
    sentences, window = [], count_of(cache.limit, "latent frame")
    for view in dict.fromkeys(branch.view for branch in settings.guidance.summed):
        seen = view.frames
        if not isinstance(seen, AgeRange):
            continue
        ranks = seen.ranks(frames, cache.sink_frames)
        if not ranks:
            sentences.append(
                f"Guidance by {seen} sees nothing: that is older than the window of {window}; "
                "choose a nearer range or a longer window."
            )
        elif len(ranks) == len(frames) and view.level == 0 and not view.exact:
            sentences.append(
                f"Guidance by {seen} changes nothing: that is all of the window of {window}; "
                "choose fewer (short_frames, oldest) or a longer window."
            )
    return sentences
