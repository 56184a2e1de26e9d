"""History Guidance as a value: its settings, the model's preset values, and the text guidance of a
chain.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from ...errors import BadInput
from ...model.preset import Preset
from ...samplers import guidance as g

TEXT, VANILLA, JOINT = "text only", "vanilla", "vanilla with text"
TEMPORAL, TEMPORAL_NONE = "temporal", "temporal and none"
FRACTIONAL, THREE = "fractional", "three branches"
NOISE, SINK, NOTHING = "pure noise", "sink", "nothing"
NONE = {NOISE: g.NOISE, SINK: g.SINK, NOTHING: g.DROP}
MAGI_TEXT, USUAL_SCALE = 7.5, 1.5  # SandAI-org/MAGI-1 inference/model/dit/dit_model.py

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class PresetValues:
    """The values of `from model`: history and text scale, and what replaces a missing history."""

    scale: float
    text_scale: float
    none_as: str

    @classmethod
    def of(cls, preset: Preset, *, sink: bool) -> PresetValues:
        """Take them from a model's preset; `sink`: its KV cache has a sink."""
        without = SINK if sink else NOTHING
        none_as = NOISE if preset.noisy_history else without
        return cls(preset.history_scale, preset.guidance_scale, none_as)


@dataclass(frozen=True, slots=True)
class HistoryGuidanceSpec:
    """The settings of History Guidance. None means: use the preset's value.

    Exceptions: `three branches` uses MAGI-1's values, and sums with more than one negative term
    default to scale 1.5.
    """

    preset: str
    scale: float | None = None
    text_scale: float | None = None
    level: float = 0.75
    short_frames: int = 4
    short_share: float = 0.5
    none_as: str | None = None
    exact: bool = False
    stabilise: float = 0.0

    def first_sum(self, preset: PresetValues) -> g.Guidance:
        """Build the start of a chain whose text guidance is this node's.

        That is text guidance alone, or the whole sum of `three branches`, which contains it.
        """
        if self.preset == THREE:
            return self._sum(preset)
        return g.cfg(value_or(self.text_scale, preset.text_scale))

    def apply(self, before: g.Guidance | None, preset: PresetValues) -> g.Guidance:
        """Add this node to `before`, which already holds the sum of `first_sum`."""
        if before is None:
            combined = self._sum(preset)
        elif self.preset in (TEXT, THREE):
            combined = before
        else:
            combined = g.extend(before, self._sum(preset))
        return g.stabilise(combined, max(combined.stabilise, self.stabilise))

    def unset_fields(self, *, is_text_source: bool) -> tuple[str, ...]:
        """Name the fields of `PresetValues` that this node leaves to the model's preset."""
        names = []
        if self.scale is None and self._pushes_from_none_alone:
            names.append("scale")
        if self.text_scale is None and is_text_source and self.preset != THREE:
            names.append("text_scale")
        if self.none_as is None and self.preset not in (TEXT, TEMPORAL, THREE):
            names.append("none_as")
        return tuple(names)

    @property
    def adds_text(self) -> bool:
        """Whether text_scale adds text guidance to a model whose own is 1."""
        return value_or(self.text_scale, MAGI_TEXT if self.preset == THREE else 1.0) != 1

    @property
    def _pushes_from_none_alone(self) -> bool:
        return self.preset in (VANILLA, TEMPORAL_NONE)

    def _missing_history(self, preset: PresetValues) -> g.View:
        view = NONE[self.none_as or (NOTHING if self.preset == THREE else preset.none_as)]
        return replace(view, exact=self.exact) if view == g.SINK else view

    def _sum(self, preset: PresetValues) -> g.Guidance:
        """Build this node's own sum; text guidance only where it is one of the terms."""
        scale = value_or(self.scale, preset.scale if self._pushes_from_none_alone else USUAL_SCALE)
        short = g.last(self.short_frames, exact=self.exact)
        none = self._missing_history(preset)
        sums: dict[str, Callable[[], g.Guidance]] = {
            VANILLA: lambda: g.vanilla(scale, none),
            JOINT: lambda: g.vanilla(scale, none, drop_prompt=True),
            TEMPORAL: lambda: g.temporal(self.short_share, short),
            TEMPORAL_NONE: lambda: g.temporal(self.short_share, short, scale=scale, none=none),
            FRACTIONAL: lambda: g.fractional(scale, self.level, none),
            THREE: lambda: g.magi(scale, value_or(self.text_scale, MAGI_TEXT), none),
        }
        return sums[self.preset]()


def choose_text_source(histories: Sequence[HistoryGuidanceSpec]) -> HistoryGuidanceSpec | None:
    """Choose the node of a chain whose text guidance counts; None if no text guidance is added.

    It is the last `text only`, else the first node. `vanilla with text` already contains text
    guidance, so then nothing is added. The model's text guidance thus counts exactly once.
    """
    if len(histories) > 1 and any(history.preset == THREE for history in histories):
        raise BadInput(
            "`three branches` is a complete sum with its own noise levels, but another History "
            "Guidance is chained to it; keep one of the two, or add views with Guidance Term."
        )
    text_only = [history for history in histories if history.preset == TEXT]
    if text_only:
        return text_only[-1]
    if not histories or any(history.preset == JOINT for history in histories):
        return None
    return histories[0]


def value_or(value: T | None, default: T) -> T:
    """Return the value, or the default if it is None."""
    return default if value is None else value
