"""The values of a GUIDANCE socket: what a user asks for, and what a model makes of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Protocol

from ...model.preset import DEMO, Preset
from ...samplers import guidance as g
from ...samplers.planning.cost import evaluated
from .history_spec import HistoryGuidanceSpec, Own, or_else, text_giver


class Step(Protocol):
    """One guidance node of a chain."""

    def after(self, before: g.Guidance | None, own: Own) -> g.Guidance:
        """What it makes of the guidance `before` it, None where there is none."""

    def unset_fields(self, *, text: bool) -> tuple[str, ...]:
        """The names, in `Own`, of what it takes from the model; `text`: text guidance is its."""


@dataclass(frozen=True, slots=True)
class GuidanceTermSpec:
    """What Guidance Term adds: these branches, in place of as much of the whole history."""

    branches: tuple[g.Branch, ...]

    def after(self, before: g.Guidance | None, own: Own) -> g.Guidance:
        """As in `Step`."""
        return g.extended(before or g.Guidance(), g.Guidance(self.branches))

    def unset_fields(self, *, text: bool) -> tuple[str, ...]:
        """Nothing."""
        return ()


@dataclass(frozen=True, slots=True)
class GuidanceOptionsSpec:
    """What Guidance Options changes. What is None, and an empty `per_step`, stays as it is; a norm
    cap of 0 is none.
    """

    from_level: float | None = None
    to_level: float | None = None
    per_step: tuple[float, ...] = ()
    first_chunk: float | None = None
    rescale: float | None = None
    norm_cap: float | None = None
    one_at_a_time: bool = False

    def after(self, before: g.Guidance | None, own: Own) -> g.Guidance:
        """As in `Step`."""
        before = before or g.Guidance()
        when, limits, (low, high) = before.when, before.limits, before.when.interval
        return replace(
            before,
            when=g.When(
                (or_else(self.from_level, low), or_else(self.to_level, high)),
                self.per_step or when.per_step,
                or_else(self.first_chunk, when.first_chunk),
            ),
            limits=g.Limits(
                or_else(self.rescale, limits.rescale),
                or_else(self.norm_cap, limits.norm_cap) or None,
            ),
            at_once=before.at_once and not self.one_at_a_time,
        )

    def unset_fields(self, *, text: bool) -> tuple[str, ...]:
        """Nothing."""
        return ()


@dataclass(frozen=True, slots=True)
class GuidanceSpec:
    """What a chain of guidance nodes asks for, node by node, and the scores among them.

    `node_id` is the last of them, under which the sampler says what it all costs.
    """

    steps: tuple[Step, ...] = ()
    weighted_scores: tuple[g.WeightedScore, ...] = ()
    node_id: str | None = field(default=None, compare=False)

    def then(self, step: Step, node_id: str | None = None) -> GuidanceSpec:
        """One node more. What no model could take is refused here."""
        made = replace(self, steps=(*self.steps, step), node_id=node_id)
        made.resolve(DEMO, sink=True)
        return made

    def pulled(self, pull: g.WeightedScore, node_id: str | None = None) -> GuidanceSpec:
        """With one score more."""
        return replace(self, weighted_scores=(*self.weighted_scores, pull), node_id=node_id)

    def resolve(self, preset: Preset, *, sink: bool) -> g.Guidance:
        """The guidance of a shot by a model with that preset; `sink`: its KV cache has one."""
        own, giver = Own.of(preset, sink=sink), self._text_giver
        made = None if giver is None else giver.begins(own)
        for step in self.steps:
            made = step.after(made, own)
        return replace(made or g.Guidance(), weighted_scores=self.weighted_scores)

    def values_from_preset(self, preset: Preset, *, sink: bool) -> dict[str, object]:
        """By name, what of it is that model's."""
        own = Own.of(preset, sink=sink)
        return {name: getattr(own, name) for name in self.unset_fields}

    def guided(self, made: g.Guidance) -> Callable[[float], g.Guidance]:
        """What another strength makes of the guidance that was `made` of it."""
        return made.scaled

    @property
    def unset_fields(self) -> tuple[str, ...]:
        """The names of what is from the model."""
        giver = self._text_giver
        found = (step.unset_fields(text=step is giver) for step in self.steps)
        return tuple(dict.fromkeys(name for of_step in found for name in of_step))

    @property
    def told(self) -> str:
        """The branches and what they cost a step, as far as that is known without a model."""
        if self.unset_fields:
            *others, last = self.unset_fields
            names = f"{', '.join(others)} and {last}" if others else last
            verb = "is" if len(self.unset_fields) == 1 else "are"
            return f"{names} {verb} from the model: the sampler says the value and the cost."
        return evaluated(self.resolve(DEMO, sink=True))

    @property
    def _text_giver(self) -> HistoryGuidanceSpec | None:
        return text_giver([step for step in self.steps if isinstance(step, HistoryGuidanceSpec)])


@dataclass(frozen=True, slots=True)
class CfgSpec:
    """What the sampler's own `cfg` asks for, which counts without a guidance; None: the model's."""

    scale: float | None = None

    def resolve(self, preset: Preset, *, sink: bool) -> g.Guidance:
        """As of `GuidanceSpec`."""
        return g.cfg(or_else(self.scale, preset.guidance_scale))

    def values_from_preset(self, preset: Preset, *, sink: bool) -> dict[str, object]:
        """As of `GuidanceSpec`."""
        return {"cfg": preset.guidance_scale} if self.scale is None else {}

    def guided(self, made: g.Guidance) -> Callable[[float], g.Guidance]:
        """A strength is the scale itself."""
        return g.cfg
