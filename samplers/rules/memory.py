"""Which rules hold of a rollout's memory; by default none."""

from __future__ import annotations

from dataclasses import dataclass

from ...attention.cache.policy import CachePolicy
from ...model.preset import Preset
from .positions import TopAligned
from .reading import FarReading, NewestFrames, PastWeight, ReadingRule, RecencyBias


@dataclass(frozen=True, slots=True)
class MemoryRules:
    """Rules on what passes read of the history.

    `commit` is what a commit sees (Commit Forcing); None sees all that denoising may see.
    `recency` reads older frames less while denoising, `past` what came before a change of prompt.
    `far` says in which steps and layers denoising reads the far past; None in all.
    `positions` may leave a gap between sink and window.
    """

    commit: NewestFrames | None = None
    recency: RecencyBias | None = None
    past: PastWeight | None = None
    far: FarReading | None = None
    positions: TopAligned | None = None

    @property
    def of_commits(self) -> tuple[ReadingRule, ...]:
        """The rules of commits."""
        return () if self.commit is None else (self.commit,)

    @property
    def of_denoising(self) -> tuple[ReadingRule, ...]:
        """The rules of denoising passes."""
        return tuple(rule for rule in (self.recency, self.past, self.far) if rule is not None)


def preset_rules(preset: Preset, cache: CachePolicy) -> MemoryRules:
    """The rules that a family was trained with, as far as they concern this `cache`."""
    if preset.aligned_frames and cache.window_follows_sink:
        return MemoryRules(positions=TopAligned(preset.aligned_frames))
    return MemoryRules()
