"""Settings of rollouts derived from another one: forked or continued.

The source never changes. Chunks shared with the source have the same addresses in the journal, so
they are not made again.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from ...samplers.conditioning.prompts import TimedPrompt
from ...samplers.guidance import Guidance
from ...samplers.settings import RolloutSettings, TimedGuidance, TimedSeed


@dataclass(frozen=True, slots=True)
class Fork:
    """What changes from latent frame `frame`, the first of a chunk, on; None means no change.

    A new prompt, seed or guidance holds to the end and replaces later changes of the source.
    """

    frame: int
    prompt: TimedPrompt | None = None
    seed: int | None = None
    guidance: Guidance | None = None

    def apply(self, settings: RolloutSettings) -> RolloutSettings:
        """The settings of the rollout forked from `settings`."""
        if self.prompt is not None:
            stop = seen_until(settings, self.frame + settings.active_frames)
            new = replace(self.prompt, start_frame=self.frame, active_from=self.frame)
            prompts = settings.prompts.with_last_prompt(new, stop)
            settings = replace(settings, prompts=prompts)
        before = settings.before(self.frame)
        if self.seed is not None:
            settings = replace(settings, seed_changes=before.seed_changes)
            settings = settings.with_seed(TimedSeed(self.frame, self.seed))
        if self.guidance is not None:
            settings = replace(settings, guidance_changes=before.guidance_changes)
            settings = settings.with_guidance(TimedGuidance(self.frame, self.guidance))
        return settings


def seen_until(settings: RolloutSettings, stop: int) -> int:
    """The latent frame after all that chunks have seen whose active frames ended at `stop`."""
    return max([stop, *(known.frame + 1 for known in settings.known_frames.ahead(stop))])


def extend(settings: RolloutSettings, end: int, more: int) -> RolloutSettings:
    """The settings that continue for `more` latent frames after latent frame `end`.

    The length is rounded up to whole chunks. Chunks are counted by the first generated frame,
    which may be a later one in the longer rollout, since known videos continue too.
    """
    schedule, leading, length = settings.schedule, settings.known_frames.whole.leading, end + more
    if length > leading:
        length += (schedule.chunk_base(leading) - length) % schedule.chunk_frames
    return settings.lasting(length)
