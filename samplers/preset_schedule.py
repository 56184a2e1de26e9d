"""A family's preset as a schedule, a solver and a cache policy."""

from __future__ import annotations

from ..attention.cache_policy import (
    AveragingSink,
    CachePolicy,
    FullHistory,
    RebuiltWindow,
    WindowSink,
)
from ..model.preset import Preset
from .ladder import Ladder, few_step_ladder, flow_ladder, opening_ladder
from .schedule import MOST_CHUNK_FRAMES, Staggered, causal_chunks, full_sequence, rolling


def preset_schedule(preset: Preset) -> Staggered:
    """The noise levels that a family was trained for: its own list, or even steps, shifted."""
    ladder = _ladder(preset, preset.timesteps) or flow_ladder(preset.steps, preset.shift)
    if preset.rolling_chunks:
        return rolling(ladder, preset.chunk_frames)
    if preset.chunk_frames > MOST_CHUNK_FRAMES:  # not causal: all latent frames at once
        return full_sequence(ladder)
    return causal_chunks(ladder, preset.chunk_frames, _opening(preset))


def preset_cache(preset: Preset) -> CachePolicy:
    """How much of the past a family was trained to look at."""
    if not preset.window_frames:
        return FullHistory()
    if preset.sink_decay:
        return AveragingSink(preset.window_frames, preset.sink_frames, preset.sink_decay)
    if preset.rebuilt:
        return RebuiltWindow(preset.window_frames, preset.sink_frames)
    return WindowSink(preset.window_frames, preset.sink_frames)


def _opening(preset: Preset) -> Ladder:
    if preset.timesteps:
        return _ladder(preset, preset.first_timesteps)
    return opening_ladder(preset.steps, preset.first_steps, preset.shift)


def _ladder(preset: Preset, timesteps: tuple[float, ...]) -> Ladder:
    shift = preset.shift if preset.shift_timesteps else 1.0
    return few_step_ladder(timesteps, shift) if timesteps else ()
