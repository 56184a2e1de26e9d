"""The specification of ANN-Sparse Attention on a MODEL, and how it changes a rollout."""

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

KEY = "longtake.attention"


@dataclass(frozen=True, slots=True)
class Strength:
    """A preset of the node.

    Keys merge above the cosine `merge_above`. Heads with a recall below `recall_floor` stay dense.
    TempCache has entries for at least `entry_frames` latent frames, `sink_frames` of them a sink.
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
OF_MODEL = 0  # the reach that the model was trained with
BUCKETED = ("lsh", "k-means")  # indexes whose buckets a kernel searches
NEVER = 1.01  # no two keys have a cosine above it


@dataclass(frozen=True, slots=True)
class Merging:
    """How a TempCache merges keys.

    Where entries run out, keys merge down to the cosine `floor`. An entry counts as at most
    `max_mass` keys (None: as all keys merged into it). `select_heads` is the cosine by layer and
    head; None uses the preset's for all heads.
    """

    floor: float = NEVER
    max_mass: float | None = 1
    select_heads: tuple[tuple[float, ...], ...] | None = None

    def above(self, cosine: float) -> tuple[float | tuple[tuple[float, ...], ...], float]:
        """Threshold and floor where the preset merges above `cosine`.

        A floor above all thresholds has no effect and is lowered to the highest of them.
        """
        if self.select_heads is None:
            return cosine, min(self.floor, cosine)
        return self.select_heads, min(self.floor, max(map(max, self.select_heads)))


@dataclass(frozen=True, slots=True)
class SparseAttentionSpec:
    """What an ANN-Sparse Attention node attaches to a MODEL on `device`.

    A TempCache has at least the entries and the sink of `strength`, and entries reach back at most
    `reach_frames`. `index` and `kernel` find the nearest keys where keys are merged.
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
        """Whether keys are merged, which needs a search for nearest keys."""
        return self.temp_cache and self.eviction == LEAST_ATTENDED

    @property
    def attends_with_kernel(self) -> bool:
        """Whether the kernel is used, for block-sparse attention or for searching buckets."""
        blocks = apply_measurements(self.sparsity, self.device).self_sparsity is not None
        return blocks or (self.merges and self.index in BUCKETED)

    def over(self, cache: CacheSettings, preset: Preset) -> CacheSettings:
        """Turn the requested history `cache` into a TempCache, if the node asks for one.

        Every latent frame of the window becomes as many entries as it has tokens, or more.
        """
        if not self.temp_cache:
            return cache
        window, chosen = cache.policy, self.strength
        if type(window) is not WindowSink or cache.placement != ON_DEVICE:
            raise BadInput(
                "TempCache of ANN-Sparse Attention replaces a plain window on the device; choose "
                "`window + sink` and placement `device` in KV Cache Settings, or switch "
                "temp_cache off."
            )
        if cache.first_latent == "re-encode" and not window.sink_frames:
            raise BadInput(
                "first_latent is re-encode in KV Cache Settings, which TempCache of ANN-Sparse "
                "Attention does not support; choose another first_latent, or switch temp_cache off."
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
        return replace(cache, policy=self._with_index(merged), storage=storage)

    def matches(self, settings: RolloutSettings) -> bool:
        """Whether `settings` are as sparse, and keep the history in the same way."""
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
        """Whether `cache` merges keys in the same way."""
        above = self.merging.above(self.strength.merge_above)
        merging = (cache.threshold, cache.floor), cache.max_mass
        return merging == (above, self.merging.max_mass) and self.index in (AUTO, cache.index)

    def _with_index(self, cache: TempCache) -> TempCache:
        """Choose the index and the kernel that find nearest keys, where keys are merged."""
        if not cache.merges:
            return cache
        index = choose_index(self.index)
        kernel = self.kernel if index in BUCKETED else AUTO_KERNEL
        return replace(cache, index=index, kernel=kernel)


def attention_spec_of(model: Any) -> SparseAttentionSpec | None:
    """The specification attached to a MODEL; None if there is none."""
    return host.get_attachment(model, KEY)
