"""A KV_CACHE value with memory rules, which a model's preset completes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from ...model.preset import Preset
from ...samplers.history.settings import CacheSettings
from ...samplers.rules.anchor import Anchor
from ...samplers.rules.memory import MemoryRules
from ...samplers.rules.positions import TopAligned
from ...samplers.rules.reading import FarReading, NewestFrames, PastWeight, RecencyBias
from ...samplers.schedule.options import FROM_MODEL
from .cache_spec import TOP_ALIGNED, Resolvable

OFF, COMMIT_FORCING, RECENCY_FORCING, CUSTOM = "off", "commit forcing", "recency forcing", "custom"
CONTIGUOUS = "contiguous"
EVERYTHING = -1  # what a commit sees without a rule
PRESETS: dict[str, Callable[[MemoryRules], MemoryRules]] = {
    FROM_MODEL: lambda own: own,  # no other rule has been measured to help a model so far
    OFF: lambda own: MemoryRules(),
    COMMIT_FORCING: lambda own: replace(own, commit=NewestFrames()),
    RECENCY_FORCING: lambda own: replace(own, recency=RecencyBias()),
}
"""The rules by name, from the model's own."""


@dataclass(frozen=True, slots=True)
class CustomRules:
    """The widgets of the preset `custom`; their defaults are neutral."""

    commit_sees: int = EVERYTHING
    recency_depth: float = 0.0
    near_frames: int = 0
    far_steps: int = 1
    far_layers: float = 1 / 3
    far_stride: int = 1
    far_share: float = 1.0
    positions: str = FROM_MODEL
    past_weight: float = 1.0
    past_chunks: int = 1

    def rules(self, preset: Preset, own: MemoryRules) -> MemoryRules:
        """The rules for a model with `preset` and its `own` rules."""
        commit = None if self.commit_sees == EVERYTHING else NewestFrames(self.commit_sees)
        far, past = None, None
        if self.near_frames:
            far = FarReading(
                self.near_frames, self.far_steps, self.far_layers, self.far_stride, self.far_share
            )
        if self.past_weight != 1:
            past = PastWeight(self.past_weight, self.past_chunks)
        return MemoryRules(
            commit,
            RecencyBias(self.recency_depth) if self.recency_depth else None,
            past,
            far,
            own.positions if self.positions == FROM_MODEL else self._aligned(preset),
        )

    def _aligned(self, preset: Preset) -> TopAligned | None:
        """Top-aligned positions, if chosen, in the range that a model was trained with."""
        if self.positions != TOP_ALIGNED:
            return None
        return TopAligned(preset.aligned_frames or preset.trained_reach + preset.chunk_frames)


@dataclass(frozen=True, slots=True)
class RuledCacheSpec:
    """What Memory Rules requests on top of another request, `cache`."""

    cache: Resolvable
    rules: str
    custom: CustomRules
    anchor: Anchor | None = None

    def resolve(self, preset: Preset) -> CacheSettings:
        """The cache settings, with rules, for a model with `preset`."""
        cache = self.cache.resolve(preset)
        memory = (
            self.custom.rules(preset, cache.memory)
            if self.rules == CUSTOM
            else PRESETS[self.rules](cache.memory)
        )
        return replace(cache, memory=memory, anchor=self.anchor)

    def values_from_preset(self, preset: Preset) -> dict[str, object]:
        """The settings that come from `preset`, by name."""
        values = self.cache.values_from_preset(preset)
        replaces = self.rules == CUSTOM and self.custom.positions != FROM_MODEL
        if self.rules == OFF or replaces:
            values.pop("positions", None)
        return values
