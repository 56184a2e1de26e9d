"""Rollouts made of rollouts: forked, rewound, continued. The source is never changed.

Each is only other settings of the same generation. What it shares with its source has the same
addresses in the journal, so nothing of it is made again.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from ...samplers.conditioning.prompts import PromptTimeline, TimedPrompt
from ...samplers.guidance import Guidance
from ...samplers.settings import RolloutSettings, TimedGuidance, TimedSeed


@dataclass(frozen=True, slots=True)
class Fork:
    """What is different from latent frame `frame`, the first one of a chunk, on; None stays.

    What the source changes after that gives way to what is given here: a new prompt holds to the
    end, and so do a new seed and a new guidance.
    """

    frame: int
    prompt: TimedPrompt | None = None
    seed: int | None = None
    guidance: Guidance | None = None

    def of(self, settings: RolloutSettings) -> RolloutSettings:
        """The settings of the forked rollout."""
        if self.prompt is not None:
            settings = replace(settings, prompts=self._prompts(settings, self.prompt))
        before = settings.before(self.frame)
        if self.seed is not None:
            settings = _reseeded(
                replace(settings, seed_changes=before.seed_changes), self.frame, self.seed
            )
        if self.guidance is not None:
            settings = replace(settings, guidance_changes=before.guidance_changes)
            settings = settings.with_guidance(TimedGuidance(self.frame, self.guidance))
        return settings

    def _prompts(self, settings: RolloutSettings, new: TimedPrompt) -> PromptTimeline:
        """The new prompt in place of all later ones, which were known to what was in flight."""
        entries, before = settings.prompts.entries, list[TimedPrompt]()
        for one in entries:
            if one.start_frame < self.frame:
                before.append(one)
            elif (
                one.start_frame < self.frame + settings.active_frames
                and self.frame > one.active_from
            ):
                before.append(
                    replace(one, active_until=min(self.frame, one.active_until or self.frame))
                )
        moved = replace(new, start_frame=self.frame, active_from=self.frame)
        in_order = sorted([*before, moved], key=lambda one: one.start_frame)
        return PromptTimeline(tuple(in_order), settings.prompts.negative)


def _reseeded(settings: RolloutSettings, frame: int, seed: int) -> RolloutSettings:
    if frame == 0:
        return replace(settings, seed=seed)
    return replace(settings, seed_changes=(*settings.seed_changes, TimedSeed(frame, seed)))


def continued(settings: RolloutSettings, end: int, more: int) -> RolloutSettings:
    """The settings that go on for `more` latent frames, in whole chunks, after latent frame `end`.

    Chunks are counted from the first frame that is made, which may be a later one in the longer
    rollout: known videos go on too.
    """
    chunk, beyond = settings.schedule.chunk_frames, end + more - settings.known_frames.whole.leading
    missing = -beyond % chunk if beyond > 0 else 0
    return settings.lasting(end + more + missing)
