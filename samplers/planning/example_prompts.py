"""Prompts that stand for a shot's own where only their number counts."""

from __future__ import annotations

from ..conditioning.prompts import PromptTimeline, TimedPrompt
from ..settings import RolloutSettings


def prompts_together(settings: RolloutSettings, first: int) -> PromptTimeline:
    """A timeline with the maximum number of prompts in force together, a chunk apart.

    The second one begins a chunk after latent frame `first`. No two are alike, for a timeline
    joins prompts that say the same.
    """
    chunk, negative = settings.schedule.chunk_frames, settings.prompts.negative
    starts = (0, *(first + i * chunk for i in range(1, settings.prompts_at_once)))
    prompts = (
        TimedPrompt(start, negative.new_tensor(float(i)).expand(negative.shape))
        for i, start in enumerate(starts)
    )
    return PromptTimeline(tuple(prompts), negative)
