"""What History Guidance asks for, what of it a model decides, and whose text guidance counts where
several of them are in one chain.
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
class Own:
    """What `from model` stands for: how strong the model's history and prompt are, and what no
    history is.
    """

    scale: float
    text_scale: float
    none_as: str

    @classmethod
    def of(cls, preset: Preset, *, sink: bool) -> Own:
        """That of a model with that preset; `sink` says whether its KV cache has one."""
        without = SINK if sink else NOTHING
        none_as = NOISE if preset.noisy_history else without
        return cls(preset.history_scale, preset.guidance_scale, none_as)


@dataclass(frozen=True, slots=True)
class HistoryGuidanceSpec:
    """What History Guidance asks for; a `scale`, `text_scale` or `none_as` of None is the model's,
    but for the three branches, which are MAGI-1's, and for the scale of sums that push away from
    more than no history, which begins at the usual 1.5.
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

    def begins(self, own: Own) -> g.Guidance:
        """What a chain begins with whose text guidance is this one's: the three branches, which
        have it within, or text guidance alone.
        """
        if self.preset == THREE:
            return self._sum(own)
        return g.cfg(or_else(self.text_scale, own.text_scale))

    def after(self, before: g.Guidance | None, own: Own) -> g.Guidance:
        """As in `Step`. What a chain begins with is there already."""
        if before is None:
            made = self._sum(own)
        elif self.preset in (TEXT, THREE):
            made = before
        else:
            made = g.extended(before, self._sum(own))
        return g.stabilised(made, max(made.stabilise, self.stabilise))

    def unset_fields(self, *, text: bool) -> tuple[str, ...]:
        """As in `Step`."""
        found = []
        if self.scale is None and self._overshoots:
            found.append("scale")
        if self.text_scale is None and text and self.preset != THREE:
            found.append("text_scale")
        if self.none_as is None and self.preset not in (TEXT, TEMPORAL, THREE):
            found.append("none_as")
        return tuple(found)

    @property
    def _overshoots(self) -> bool:
        """Whether its scale pushes away from no history alone."""
        return self.preset in (VANILLA, TEMPORAL_NONE)

    def _none(self, own: Own) -> g.View:
        """What no history is."""
        none = NONE[self.none_as or (NOTHING if self.preset == THREE else own.none_as)]
        return replace(none, exact=self.exact) if none == g.SINK else none

    def _sum(self, own: Own) -> g.Guidance:
        """The preset's own sum; text guidance only where it is a term of it."""
        scale = or_else(self.scale, own.scale if self._overshoots else USUAL_SCALE)
        short, none = g.last(self.short_frames, exact=self.exact), self._none(own)
        made: dict[str, Callable[[], g.Guidance]] = {
            VANILLA: lambda: g.vanilla(scale, none),
            JOINT: lambda: g.vanilla(scale, none, drop_prompt=True),
            TEMPORAL: lambda: g.temporal(self.short_share, short),
            TEMPORAL_NONE: lambda: g.temporal(self.short_share, short, scale=scale, none=none),
            FRACTIONAL: lambda: g.fractional(scale, self.level, none),
            THREE: lambda: g.magi(scale, or_else(self.text_scale, MAGI_TEXT), none),
        }
        return made[self.preset]()


def text_giver(histories: Sequence[HistoryGuidanceSpec]) -> HistoryGuidanceSpec | None:
    """Whose text guidance a chain of them begins with, None if they need none of their own.

    It is the last `text only`; `vanilla with text` guides text itself; else it is the first one.
    So the model's text guidance counts once, wherever in the chain it comes from.
    """
    if len(histories) > 1 and any(one.preset == THREE for one in histories):
        raise BadInput(
            "`three branches` is a whole sum with noise levels of its own, and another History "
            "Guidance is chained to it; use one of the two, or add views of the history to it with "
            "Guidance Term."
        )
    alone = [one for one in histories if one.preset == TEXT]
    if alone:
        return alone[-1]
    if not histories or any(one.preset == JOINT for one in histories):
        return None
    return histories[0]


def or_else(asked: T | None, other: T) -> T:
    """What was asked for; what is left open is `other`."""
    return other if asked is None else asked
