"""Prompts that stand for a shot's own where only their number counts."""

from __future__ import annotations

from ..conditioning.prompts import PromptTimeline, TimedPrompt
from ..settings import RolloutSettings


def prompts_together(settings: RolloutSettings, first: int) -> PromptTimeline:
    """A timeline with the maximum number of prompts in force together, a chunk apart.

    The second one begins with the chunk after latent frame `first`. No two are alike, for a
    timeline joins prompts that say the same.
    """
    chunk, negative = settings.schedule.chunk_frames, settings.prompts.negative
    second = settings.next_chunk(first + 1)
    starts = (0, *(second + i * chunk for i in range(settings.prompts_at_once - 1)))
    prompts = (
        TimedPrompt(start, negative.new_tensor(float(i)).expand(negative.shape))
        for i, start in enumerate(starts)
    )
    return PromptTimeline(tuple(prompts), negative)
