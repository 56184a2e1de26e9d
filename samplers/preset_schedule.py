"""A family's preset as a schedule and a solver."""

from __future__ import annotations

from dataclasses import replace

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
    """The solver a family was trained for."""
    return as_trained(solver_for(preset.solver), preset)


def as_trained(solver: Solver, preset: Preset) -> Solver:
    """The solver, which tells the model of a family with a final list that list's own timesteps."""
    if preset.shift_timesteps or not isinstance(solver, ReNoise):
        return solver
    levels = table_ladder(preset.timesteps, preset.shift)
    return replace(solver, process=Flow(tuple(zip(levels, preset.timesteps, strict=False))))
