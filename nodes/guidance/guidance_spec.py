"""The values of a GUIDANCE socket: a chain of guidance nodes before the model is known."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Protocol

from ...errors import BadInput
from ...model.preset import DEMO, Preset
from ...samplers import guidance as g
from ...samplers.planning.cost import describe_branches
from .history_spec import (
    JOINT,
    HistoryGuidanceSpec,
    PresetValues,
    choose_text_source,
    value_or,
)


class Step(Protocol):
    """One guidance node of a chain."""

    def apply(self, before: g.Guidance | None, preset: PresetValues) -> g.Guidance:
        """Add this node to the guidance `before` it; None at the start of a chain."""

    def unset_fields(self, *, is_text_source: bool) -> tuple[str, ...]:
        """Name the fields of `PresetValues` that this node leaves to the model's preset."""


@dataclass(frozen=True, slots=True)
class GuidanceTermSpec:
    """The branches of a Guidance Term, which replace as much weight of the whole history."""

    branches: tuple[g.Branch, ...]

    def apply(self, before: g.Guidance | None, preset: PresetValues) -> g.Guidance:
        """Add the branches to the guidance."""
        return g.extend(before or g.Guidance(), g.Guidance(self.branches))

    def unset_fields(self, *, is_text_source: bool) -> tuple[str, ...]:
        """Return nothing: a term has no preset values."""
        return ()


@dataclass(frozen=True, slots=True)
class NAGSpec:
    """NAG, which changes attention to prompts and adds no branch."""

    attention: g.NormalizedAttention

    def apply(self, before: g.Guidance | None, preset: PresetValues) -> g.Guidance:
        """Put NAG in the place of an earlier one."""
        return replace(before or g.Guidance(), normalized_attention=self.attention)

    def unset_fields(self, *, is_text_source: bool) -> tuple[str, ...]:
        """Return nothing: NAG has no preset values."""
        return ()


@dataclass(frozen=True, slots=True)
class SkippedLayersSpec:
    """Skip-layer guidance: in a pass of its own at `scale`; None: in the negative prompt's pass."""

    skipped: g.SkippedLayers
    scale: float | None = None

    def apply(self, before: g.Guidance | None, preset: PresetValues) -> g.Guidance:
        """Let branches of the negative prompt skip the layers, or add one that does."""
        guidance = before or g.Guidance()
        if self.scale is None:
            return g.skip_in_negative(guidance, self.skipped)
        return g.extend(guidance, g.without_layers(self.scale, self.skipped))

    def unset_fields(self, *, is_text_source: bool) -> tuple[str, ...]:
        """Return nothing: skipped layers have no preset values."""
        return ()


def check_interval(low: float, high: float, what: str = "guidance acts") -> None:
    """Refuse (BadInput) noise levels that have nothing between them, where `what` happens."""
    if low > high:
        raise BadInput(
            f"from_level is {low:g} and to_level {high:g}, and {what} between them; set from_level "
            "to at most to_level."
        )


@dataclass(frozen=True, slots=True)
class GuidanceOptionsSpec:
    """When a guidance acts and what limits it. None and an empty `per_step` change nothing; a
    `norm_cap` of 0 removes the cap.
    """

    from_level: float | None = None
    to_level: float | None = None
    per_step: tuple[float, ...] = ()
    first_chunk: float | None = None
    rescale: float | None = None
    norm_cap: float | None = None
    one_at_a_time: bool = False

    def apply(self, before: g.Guidance | None, preset: PresetValues) -> g.Guidance:
        """Change the options, never the terms."""
        before = before or g.Guidance()
        when, limits = before.timing, before.limits
        return replace(
            before,
            timing=g.GuidanceTiming(
                self._interval(*when.interval),
                self.per_step or when.per_step,
                value_or(self.first_chunk, when.first_chunk),
            ),
            limits=g.Limits(
                value_or(self.rescale, limits.rescale),
                value_or(self.norm_cap, limits.norm_cap) or None,
            ),
            in_one_pass=before.in_one_pass and not self.one_at_a_time,
        )

    def _interval(self, low: float, high: float) -> tuple[float, float]:
        """The noise levels that guidance acts between; `low` and `high` where nothing is set."""
        low, high = value_or(self.from_level, low), value_or(self.to_level, high)
        check_interval(low, high)
        return low, high

    def unset_fields(self, *, is_text_source: bool) -> tuple[str, ...]:
        """Return nothing: options have no preset values."""
        return ()


@dataclass(frozen=True, slots=True)
class GuidanceSpec:
    """A chain of guidance nodes and their scores.

    `node_id` is the last node; the sampler shows the cost under it.
    """

    steps: tuple[Step, ...] = ()
    scores: tuple[g.WeightedScore, ...] = ()
    node_id: str | None = field(default=None, compare=False)

    def then(self, step: Step, node_id: str | None = None) -> GuidanceSpec:
        """Append a node; raise BadInput for a chain that no model supports."""
        chain = replace(self, steps=(*self.steps, step), node_id=node_id)
        chain.resolve(DEMO, sink=True)
        return chain

    def with_score(self, score: g.WeightedScore, node_id: str | None = None) -> GuidanceSpec:
        """Append a score to the chain."""
        return replace(self, scores=(*self.scores, score), node_id=node_id)

    def resolve(self, preset: Preset, *, sink: bool) -> g.Guidance:
        """Build the guidance for a model with `preset`; `sink`: its KV cache has a sink."""
        values, source = PresetValues.of(preset, sink=sink), self._text_source
        guidance = None if source is None else source.first_sum(values)
        for step in self.steps:
            guidance = step.apply(guidance, values)
        return replace(guidance or g.Guidance(), weighted_scores=self.scores)

    def values_from_preset(self, preset: Preset, *, sink: bool) -> dict[str, object]:
        """Return the values that come from the model's preset, by name."""
        values = PresetValues.of(preset, sink=sink)
        return {name: getattr(values, name) for name in self.unset_fields}

    def at_strength(self, guidance: g.Guidance) -> Callable[[float], g.Guidance]:
        """Return the function that scales this resolved guidance by a strength."""
        return guidance.scale_by

    @property
    def unset_fields(self) -> tuple[str, ...]:
        """The names of the values that come from the model's preset."""
        source = self._text_source
        names = (step.unset_fields(is_text_source=step is source) for step in self.steps)
        return tuple(dict.fromkeys(name for group in names for name in group))

    @property
    def summary(self) -> str:
        """The branches and their cost, or the values that only the sampler knows."""
        if self.unset_fields:
            *others, last = self.unset_fields
            names = f"{', '.join(others)} and {last}" if others else last
            verb = "comes" if len(self.unset_fields) == 1 else "come"
            return f"{names} {verb} from the model; the sampler shows the value and the cost."
        return describe_branches(self.resolve(DEMO, sink=True))

    @property
    def ways_without_text(self) -> list[str]:
        """What to change at each node that adds text guidance which a distilled model lacks."""
        histories = [step for step in self.steps if isinstance(step, HistoryGuidanceSpec)]
        terms = [step for step in self.steps if isinstance(step, GuidanceTermSpec)]
        ways = []
        if self._text_source is not None and self._text_source.adds_text:
            ways.append("set text_scale of History Guidance to 1")
        if any(history.preset == JOINT for history in histories):
            ways.append("choose another preset than `vanilla with text`")
        if any(branch.prompt == "negative" for term in terms for branch in term.branches):
            ways.append("set prompt of Guidance Term to positive")
        return ways

    def ways_without_noise(self, level: float, preset: Preset, *, sink: bool) -> list[str]:
        """What to use at each node with a history at this noise level; 1 is pure noise."""
        alone = [(step, GuidanceSpec((step,)).resolve(preset, sink=sink)) for step in self.steps]
        noisy = [
            step for step, own in alone if any(b.view.seen_level == level for b in own.branches)
        ]
        none = "the sink" if sink else "nothing"
        of_term = f"{none} as view of Guidance Term" if level == 1 else "level 0 in Guidance Term"
        of_preset = f"{none} as no history" if level == 1 else "the preset `temporal`"
        return [of_term if isinstance(step, GuidanceTermSpec) else of_preset for step in noisy]

    @property
    def _text_source(self) -> HistoryGuidanceSpec | None:
        histories = [step for step in self.steps if isinstance(step, HistoryGuidanceSpec)]
        return choose_text_source(histories)


@dataclass(frozen=True, slots=True)
class CfgSpec:
    """The sampler's own `cfg`, used without a guidance node; None is the model's value."""

    scale: float | None = None

    def resolve(self, preset: Preset, *, sink: bool) -> g.Guidance:
        """Build the guidance for a model with `preset`."""
        return g.cfg(value_or(self.scale, preset.guidance_scale))

    def values_from_preset(self, preset: Preset, *, sink: bool) -> dict[str, object]:
        """Return `cfg` if it comes from the model's preset."""
        return {"cfg": preset.guidance_scale} if self.scale is None else {}

    def at_strength(self, guidance: g.Guidance) -> Callable[[float], g.Guidance]:
        """Return the function that takes a strength as the cfg scale."""
        return g.cfg
