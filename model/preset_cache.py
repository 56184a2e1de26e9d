"""A family's preset as a cache policy."""

from __future__ import annotations

from dataclasses import replace

from ..attention.cache.placed_windows import (
    AnchorWindow,
    DistantSink,
    SharedWindow,
    WaveWindow,
)
from ..attention.cache.policy import (
    AveragingSink,
    CachePolicy,
    FullHistory,
    MemoryBank,
    RebuiltWindow,
    WindowSink,
)
from ..attention.coarse.window import CoarseWindow
from ..attention.delta.window import DeltaWindow
from ..attention.recall.window import RecallBy, RecallWindow
from .preset import RECALLED_SHARE, Preset


def preset_cache(preset: Preset) -> CachePolicy:
    """How much of the past a family was trained to look at."""
    if not preset.window_frames:
        return FullHistory()
    if preset.sink_decay:
        return AveragingSink(preset.window_frames, preset.sink_frames, preset.sink_decay)
    if preset.bank_frames:
        return MemoryBank(preset.window_frames, preset.sink_frames, preset.bank_frames)
    if preset.fine_frames:
        return CoarseWindow(preset.window_frames, preset.sink_frames, preset.fine_frames)
    kinds: tuple[tuple[bool, type[WindowSink]], ...] = (
        (preset.rebuilt, RebuiltWindow),
        (preset.wavefront, WaveWindow),
        (preset.anchored, AnchorWindow),
        (preset.shared_window, SharedWindow),
        (preset.distant_sink and preset.sink_frames > 0, DistantSink),
        (preset.state, DeltaWindow),
        (True, WindowSink),
    )
    kind = next(kind for holds, kind in kinds if holds)
    window = kind(preset.window_frames, preset.sink_frames)
    if kind is not WindowSink or not preset.recall_share:
        return window
    policy = recalling(preset.window_frames, preset.sink_frames, share=preset.recall_share)
    archive = max(preset.archive_frames, policy.recall_frames) if preset.archive_frames else None
    return in_world(replace(policy, archive_frames=archive), preset)


def in_world(policy: RecallWindow, preset: Preset) -> RecallWindow:
    """The policy in the world of a family, fetching when the family was trained to."""
    only_new_views = preset.only_new_views and policy.by == "view"
    return replace(policy, flat_world=preset.flat_world, only_new_views=only_new_views)


def recalling(
    window: int, sink: int, by: RecallBy = "view", share: float = RECALLED_SHARE
) -> RecallWindow:
    """A window in latent frames, a `share` of which recalls past ones as far as there is room."""
    room = max(0, window - sink - 1)
    return RecallWindow(window, sink, min(room, int(share * window)), by=by)
