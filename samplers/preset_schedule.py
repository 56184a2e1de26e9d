"""A family's preset as a schedule, a solver and a cache policy."""

from __future__ import annotations

from dataclasses import replace

from ..attention.cache_policy import (
    AveragingSink,
    CachePolicy,
    FullHistory,
    RebuiltWindow,
    WindowSink,
)
from ..model.preset import Preset
from .ladder import TIMESTEPS, Ladder, few_step_ladder, flow_ladder, opening_ladder, table_ladder
from .process import Flow
from .schedule import MOST_CHUNK_FRAMES, Staggered, causal_chunks, full_sequence, rolling
from .schedule_options import SOLVERS
from .solvers import ReNoise, Solver


def preset_schedule(preset: Preset) -> Staggered:
    """The noise levels that a family was trained for: its own list, or even steps, shifted."""
    even = flow_ladder(preset.steps, preset.shift, preset.begins / TIMESTEPS)
    ladder = _ladder(preset, preset.timesteps) or even
    if preset.rolling_chunks:
        return rolling(ladder, preset.chunk_frames)
    if preset.chunk_frames > MOST_CHUNK_FRAMES:  # not causal: all latent frames at once
        return full_sequence(ladder)
    return causal_chunks(ladder, preset.chunk_frames, _opening(preset))


def preset_solver(preset: Preset) -> Solver:
    """The solver a family was trained for; it tells the model a final list's own timesteps."""
    solver = SOLVERS[preset.solver]
    if preset.shift_timesteps or not isinstance(solver, ReNoise):
        return solver
    levels = table_ladder(preset.timesteps, preset.shift)
    return replace(solver, process=Flow(tuple(zip(levels, preset.timesteps, strict=False))))


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
    if not timesteps:
        return ()
    ladder = few_step_ladder if preset.shift_timesteps else table_ladder
    return ladder(timesteps, preset.shift)
