"""A family's preset as a cache policy."""

from __future__ import annotations

from ..attention.cache.placed_windows import DistantSink, SharedWindow, WaveWindow
from ..attention.cache.policy import (
    AveragingSink,
    CachePolicy,
    FullHistory,
    MemoryBank,
    RebuiltWindow,
    WindowSink,
)
from ..attention.delta.window import DeltaWindow
from .preset import Preset


def preset_cache(preset: Preset) -> CachePolicy:
    """How much of the past a family was trained to look at."""
    if not preset.window_frames:
        return FullHistory()
    if preset.sink_decay:
        return AveragingSink(preset.window_frames, preset.sink_frames, preset.sink_decay)
    if preset.bank_frames:
        return MemoryBank(preset.window_frames, preset.sink_frames, preset.bank_frames)
    if preset.rebuilt:
        return RebuiltWindow(preset.window_frames, preset.sink_frames)
    if preset.wavefront:
        return WaveWindow(preset.window_frames, preset.sink_frames)
    if preset.shared_window:
        return SharedWindow(preset.window_frames, preset.sink_frames)
    if preset.distant_sink and preset.sink_frames:
        return DistantSink(preset.window_frames, preset.sink_frames)
    if preset.state:
        return DeltaWindow(preset.window_frames, preset.sink_frames)
    return WindowSink(preset.window_frames, preset.sink_frames)
