"""The values of a NOISE_SCHEDULE socket: requested settings, which a model's preset completes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from ...model.preset import Preset, overridden
from ...samplers.feature_caching import FeatureCaching
from ...samplers.schedule.context_noise import ContextNoise
from ...samplers.schedule.options import (
    BETAS,
    CHUNKS,
    FLOW,
    FROM_MODEL,
    ScheduleOptions,
    as_trained,
    solver_for,
)
from ...samplers.schedule.rows import NoiseSchedule
from ...samplers.solvers.single_step import Solver


@dataclass(frozen=True, slots=True)
class ScheduleSettings:
    """A complete schedule, which needs nothing from the model."""

    schedule: NoiseSchedule
    solver: Solver
    context_noise: ContextNoise
    feature_caching: FeatureCaching | None = None

    def resolve(self, preset: Preset) -> ScheduleSettings:
        return self

    def values_from_preset(self, preset: Preset) -> dict[str, object]:
        return {}


@dataclass(frozen=True, slots=True)
class ScheduleSpec:
    """What Diffusion-Forcing Schedule requests.

    The model's preset fills in the solver `from model`, a context noise of None and the unset
    fields of `options`.
    """

    options: ScheduleOptions = ScheduleOptions()
    solver: str = FROM_MODEL
    context_noise: ContextNoise | None = None
    predicts: str = FLOW
    betas: str = BETAS[0]
    eta: float = 1.0
    feature_caching: FeatureCaching | None = None

    def resolve(self, preset: Preset) -> ScheduleSettings:
        """The schedule and all else of it for a model with `preset`."""
        noise = self.context_noise or ContextNoise(preset.context_noise)
        return ScheduleSettings(
            self.options.schedule(preset), self._solver(preset), noise, self.feature_caching
        )

    def values_from_preset(self, preset: Preset) -> dict[str, object]:
        """The settings that come from `preset`, by name."""
        used = self.options.in_place_of(preset)
        values = {name: getattr(used, name) for name in self.options.unset_fields}
        if self.options.kind == FROM_MODEL:
            values = {"schedule": self.options.kind_for(used), **values}
        if self.options.kind_for(used) == CHUNKS and used.first_frames:
            values["first_frames"] = used.first_frames
        if self.solver == FROM_MODEL:
            values["solver"] = used.solver
        if self.context_noise is None:
            values["context_noise"] = used.context_noise
        return values

    def _solver(self, preset: Preset) -> Solver:
        solver = None if self.solver == FROM_MODEL else self.solver
        used = overridden(self.options.in_place_of(preset), solver=solver)
        return as_trained(solver_for(used.solver, self.predicts, self.betas, self.eta), used)


class Resolvable(Protocol):
    """The value of a NOISE_SCHEDULE socket."""

    def resolve(self, preset: Preset) -> ScheduleSettings:
        """The settings for a model with `preset`."""

    def values_from_preset(self, preset: Preset) -> dict[str, object]:
        """The settings that come from `preset`, by name."""
