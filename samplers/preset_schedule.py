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
from .ladder import table_ladder
from .process import Flow
from .schedule import Staggered
from .schedule_options import ScheduleOptions, solver_for
from .solvers import ReNoise, Solver


def preset_schedule(preset: Preset) -> Staggered:
    """The noise levels that a family was trained for."""
    return ScheduleOptions().schedule(preset)


def preset_solver(preset: Preset) -> Solver:
    """The solver a family was trained for; it tells the model a final list's own timesteps."""
    solver = solver_for(preset.solver)
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
