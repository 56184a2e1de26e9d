"""A KV_CACHE value with memory rules, which a model's preset completes."""

from __future__ import annotations

from dataclasses import dataclass, replace

from ...model.preset import Preset
from ...samplers.history.settings import CacheSettings
from ...samplers.rules.anchor import Anchor
from ...samplers.rules.memory import MemoryRules
from ...samplers.rules.positions import TopAligned
from ...samplers.rules.reading import FarReading, NewestFrames, PastWeight, RecencyBias
from ...samplers.schedule.options import FROM_MODEL
from .cache_spec import Resolvable

OFF, COMMIT_FORCING, RECENCY_FORCING, CUSTOM = "off", "commit forcing", "recency forcing", "custom"
CONTIGUOUS, TOP_ALIGNED = "contiguous", "top-aligned"
EVERYTHING = -1  # what a commit sees without a rule
PRESETS = {
    FROM_MODEL: MemoryRules(),  # no rule has been measured to help a model so far
    OFF: MemoryRules(),
    COMMIT_FORCING: MemoryRules(commit=NewestFrames()),
    RECENCY_FORCING: MemoryRules(recency=RecencyBias()),
}


@dataclass(frozen=True, slots=True)
class CustomRules:
    """The widgets of the preset `custom`; their defaults are neutral."""

    commit_sees: int = EVERYTHING
    recency_depth: float = 0.0
    near_frames: int = 0
    far_steps: int = 1
    far_layers: float = 1 / 3
    top_aligned: bool = False
    past_weight: float = 1.0
    past_chunks: int = 1

    def rules(self, preset: Preset) -> MemoryRules:
        """The rules for a model with `preset`, whose range tells where the top is."""
        commit = None if self.commit_sees == EVERYTHING else NewestFrames(self.commit_sees)
        far, past = None, None
        if self.near_frames:
            far = FarReading(self.near_frames, self.far_steps, self.far_layers)
        if self.past_weight != 1:
            past = PastWeight(self.past_weight, self.past_chunks)
        trained = preset.trained_reach + preset.chunk_frames
        return MemoryRules(
            commit,
            RecencyBias(self.recency_depth) if self.recency_depth else None,
            past,
            far,
            TopAligned(trained) if self.top_aligned else None,
        )


@dataclass(frozen=True, slots=True)
class RuledCacheSpec:
    """What Memory Rules requests on top of another request, `cache`."""

    cache: Resolvable
    rules: str
    custom: CustomRules
    anchor: Anchor | None = None

    def resolve(self, preset: Preset) -> CacheSettings:
        """The cache settings, with rules, for a model with `preset`."""
        memory = self.custom.rules(preset) if self.rules == CUSTOM else PRESETS[self.rules]
        return replace(self.cache.resolve(preset), memory=memory, anchor=self.anchor)

    def values_from_preset(self, preset: Preset) -> dict[str, object]:
        """The settings that come from `preset`, by name."""
        return self.cache.values_from_preset(preset)
