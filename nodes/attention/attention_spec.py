"""The specification of ANN-Sparse Attention on a MODEL, and how it changes a rollout."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import torch

from ...attention.cache.policy import WindowSink
from ...attention.kernels.choice import AUTO
from ...attention.recall.window import RecallWindow
from ...attention.sparse.settings import Sparsity
from ...attention.sparse.thresholds import apply_measurements
from ...attention.storage.packed import Packed
from ...attention.storage.placement import ON_DEVICE
from ...attention.temp_cache.policy import REDUNDANT, TempCache
from ...errors import BadInput
from ...model.preset import Preset
from ...samplers.history.settings import CacheSettings
from ...samplers.settings import RolloutSettings
from .. import host

KEY = "longtake.attention"
OF_MODEL = 0  # the reach that the model was trained with, or the entries of the window


@dataclass(frozen=True, slots=True)
class Strength:
    """A preset of the node.

    Heads with a recall below `recall_floor` stay dense. A TempCache has entries for the share
    `entries` of the latent frames that the model looks back on, `sink_frames` of them a sink.
    """

    density: float
    recall_floor: float
    entries: float
    sink_frames: int

    def entry_frames(self, span: int, chunk_frames: int) -> int:
        """Latent frames of entries for a model that looks back `span` latent frames.

        The newest chunk always stays whole: it takes at most half of what the sink leaves.
        """
        least = min(span, self.sink_frames + 2 * chunk_frames)
        return max(least, round(self.entries * span))


PRESETS = {  # shares of the demo's 64: docs/measurements/attention.md, `bench attention_quality`
    "quality": Strength(0.5, 0.9, 1.0, 3),
    "balanced": Strength(0.3, 0.85, 0.75, 3),
    "fast": Strength(0.15, 0.7, 0.375, 3),
}


@dataclass(frozen=True, slots=True)
class CustomEntries:
    """Entries for `frames` latent frames; OF_MODEL is as many as the window has."""

    frames: int = OF_MODEL


@dataclass(frozen=True, slots=True)
class SparseAttentionSpec:
    """What an ANN-Sparse Attention node attaches to a MODEL on `device`.

    `entries` says how many entries a TempCache has; they reach back at most `reach_frames`.
    """

    temp_cache: bool
    sparsity: Sparsity
    entries: Strength | CustomEntries
    device: torch.device
    reach_frames: int = OF_MODEL
    kernel: str = AUTO

    @property
    def attends_with_kernel(self) -> bool:
        """Whether the kernel is used, for block-sparse attention."""
        return apply_measurements(self.sparsity, self.device).self_sparsity is not None

    def over(self, cache: CacheSettings, preset: Preset) -> CacheSettings:
        """Turn the requested history `cache` into a TempCache, if the node asks for one."""
        if not self.temp_cache:
            return cache
        window = _plain_window(cache)
        reach = max(window.window_frames, self.reach_frames or preset.trained_reach)
        span = max(window.window_frames, preset.trained_reach)
        frames, sink = self._entries(window, span, preset.chunk_frames)
        storage = cache.storage
        if isinstance(storage, Packed):
            storage = replace(storage, recent_frames=0)
        policy = TempCache(
            frames, sink_frames=min(sink, frames - 1), reach_frames=reach, max_mass=1,
            eviction=REDUNDANT,
        )  # fmt: skip
        return replace(cache, policy=policy, storage=storage)

    def _entries(self, window: WindowSink, span: int, chunk_frames: int) -> tuple[int, int]:
        """Latent frames of entries in place of `window`, and how many of them are a sink."""
        if isinstance(self.entries, CustomEntries):
            return self.entries.frames or window.window_frames, window.sink_frames
        frames = self.entries.entry_frames(span, chunk_frames)
        return frames, max(window.sink_frames, self.entries.sink_frames)

    def matches(self, settings: RolloutSettings) -> bool:
        """Whether `settings` are as sparse, and keep the history in the same way."""
        cache = settings.cache
        if settings.sparsity != self.sparsity:
            return False
        if not isinstance(cache, TempCache) or not self.temp_cache:
            return isinstance(cache, TempCache) == self.temp_cache
        reach = math.inf if cache.reach_frames is None else cache.reach_frames
        return not cache.merges and reach >= self.reach_frames


def _plain_window(cache: CacheSettings) -> WindowSink:
    """The window that entries replace; BadInput for any other history."""
    window = cache.policy
    if cache.gives_way and isinstance(window, RecallWindow):  # entries have the room of all of it
        window = WindowSink(window.window_frames, window.sink_frames)
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
    return window


def attention_spec_of(model: Any) -> SparseAttentionSpec | None:
    """The specification attached to a MODEL; None if there is none."""
    return host.get_attachment(model, KEY)
