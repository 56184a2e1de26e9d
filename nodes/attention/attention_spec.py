"""What ANN-Sparse Attention asks for: its presets, and how they are put in force in a rollout."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import torch

from ...attention.ann.choice import AUTO, choose_index
from ...attention.cache.policy import WindowSink
from ...attention.kernels.choice import AUTO as AUTO_KERNEL
from ...attention.sparse.settings import Sparsity
from ...attention.sparse.thresholds import apply_measurements
from ...attention.storage.packed import Packed
from ...attention.storage.placement import ON_DEVICE
from ...attention.temp_cache.policy import LEAST_ATTENDED, REDUNDANT, TempCache
from ...errors import BadInput
from ...model.preset import Preset
from ...samplers.history.settings import CacheSettings
from ...samplers.settings import RolloutSettings
from .. import host
from .describe import frame_tokens

KEY = "longtake.attention"


@dataclass(frozen=True, slots=True)
class Strength:
    """A preset: the cosine to merge above, the density, the recall to fall back under, and the
    fewest latent frames that TempCache has entries for, and that are its sink.
    """

    merge_above: float
    density: float
    recall_floor: float
    entry_frames: int = 1
    sink_frames: int = 0


PRESETS = {  # entries: docs/measurements/attention.md, from `bench attention_quality`
    "quality": Strength(0.97, 0.5, 0.9, 64, 3),
    "balanced": Strength(0.95, 0.3, 0.85, 48, 3),
    "fast": Strength(0.9, 0.15, 0.7, 24, 3),
}
OF_MODEL = 0  # a reach as far as the model was trained to look back
BUCKETED = ("lsh", "k-means")  # indexes whose buckets a kernel looks through
NEVER = 1.01  # a cosine that no two keys are above


@dataclass(frozen=True, slots=True)
class Merging:
    """How a TempCache that merges does it: for want of room down to the cosine `floor`, an entry
    counts as `max_mass` keys (None: as all that it is made of), and above which cosine by layer
    and head, None for the preset's in all of them.
    """

    floor: float = NEVER
    max_mass: float | None = 1
    select_heads: tuple[tuple[float, ...], ...] | None = None

    def above(self, cosine: float) -> tuple[float | tuple[tuple[float, ...], ...], float]:
        """Threshold and floor, where the preset merges above `cosine`. A floor above all thresholds
        is the highest of them, which does as little.
        """
        if self.select_heads is None:
            return cosine, min(self.floor, cosine)
        return self.select_heads, min(self.floor, max(map(max, self.select_heads)))


@dataclass(frozen=True, slots=True)
class SparseAttentionSpec:
    """What a MODEL on `device` carries: what is sparse, and, if there is one, its TempCache, with
    at least `strength`'s entries and sink, in which an entry stands at most `reach_frames` back.
    `index` and `kernel` find the nearest keys of one that merges, in the way of `merging`.
    """

    temp_cache: bool
    sparsity: Sparsity
    strength: Strength
    device: torch.device
    eviction: str = REDUNDANT
    reach_frames: int = OF_MODEL
    index: str = AUTO
    kernel: str = AUTO_KERNEL
    merging: Merging = Merging()

    @property
    def merges(self) -> bool:
        """Whether keys are merged, for which their nearest are looked for."""
        return self.temp_cache and self.eviction == LEAST_ATTENDED

    @property
    def attends_with_kernel(self) -> bool:
        """Whether the kernel is of use: to attend to blocks, or to look through buckets."""
        blocks = apply_measurements(self.sparsity, self.device).self_sparsity is not None
        return blocks or (self.merges and self.index in BUCKETED)

    def over(self, cache: CacheSettings, preset: Preset, tokens: int) -> CacheSettings:
        """The history as it is kept where `cache` was asked for, by a model with that preset, in
        latent frames of so many tokens: a window's frames become as many entries, or more.
        """
        if not self.temp_cache:
            return cache
        window, chosen = cache.policy, self.strength
        if type(window) is not WindowSink or cache.placement != ON_DEVICE:
            raise BadInput(
                "TempCache of ANN-Sparse Attention takes the place of a plain window on the "
                "device; choose `window + sink` and placement `device` in KV Cache Settings, or "
                "switch temp_cache off."
            )
        if cache.first_latent == "re-encode" and not window.sink_frames:
            raise BadInput(
                "first_latent is re-encode in KV Cache Settings, which TempCache of ANN-Sparse "
                "Attention cannot do: its keys are not those of a window; choose another "
                "first_latent, or switch temp_cache off."
            )
        frames = max(window.window_frames, chosen.entry_frames)
        merged = TempCache(
            frames, *self.merging.above(chosen.merge_above),
            max(window.sink_frames, min(chosen.sink_frames, frames - 1)),
            max(window.window_frames, self.reach_frames or preset.trained_reach),
            max_mass=self.merging.max_mass, eviction=self.eviction,
        )  # fmt: skip
        storage = cache.storage
        if isinstance(storage, Packed):
            storage = replace(storage, recent_frames=0)
        return replace(cache, policy=self._indexed(merged, tokens), storage=storage)

    def indexed(self, settings: RolloutSettings) -> RolloutSettings:
        """`settings` with the index for the entries that a budget has left."""
        if not isinstance(settings.cache, TempCache):
            return settings
        return replace(settings, cache=self._indexed(settings.cache, frame_tokens(settings)))

    def is_in_force(self, settings: RolloutSettings) -> bool:
        """Whether `settings` could be what it makes of some: as sparse, and what is kept alike."""
        cache = settings.cache
        if settings.sparsity != self.sparsity:
            return False
        if not isinstance(cache, TempCache) or not self.temp_cache:
            return isinstance(cache, TempCache) == self.temp_cache
        reach = math.inf if cache.reach_frames is None else cache.reach_frames
        if cache.eviction != self.eviction or reach < self.reach_frames:
            return False
        return not cache.merges or self._merges_as(cache)

    def _merges_as(self, cache: TempCache) -> bool:
        """Whether a cache that merges could be what this makes of some."""
        above = self.merging.above(self.strength.merge_above)
        merging = (cache.threshold, cache.floor), cache.max_mass
        return merging == (above, self.merging.max_mass) and self.index in (AUTO, cache.index)

    def _indexed(self, cache: TempCache, tokens: int) -> TempCache:
        """With what finds the nearest keys among its entries, where keys are merged."""
        if not cache.merges:
            return cache
        found, _ = choose_index(self.index, cache.slots(tokens, None), self.device)
        kernel = self.kernel if found in BUCKETED else AUTO_KERNEL
        return replace(cache, index=found, kernel=kernel)


def attention_spec_of(model: Any) -> SparseAttentionSpec | None:
    """What an ANN-Sparse Attention node put on a MODEL."""
    return host.attached(model, KEY)
