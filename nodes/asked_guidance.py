"""The values of a GUIDANCE socket: what a user asks for, and what a model makes of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Protocol, TypeVar

from ..model.preset import DEMO, Preset
from ..samplers import guidance as g
from ..samplers.cost import evaluated

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


class Step(Protocol):
    """One guidance node of a chain."""

    def after(self, before: g.Guidance | None, own: Own) -> g.Guidance:
        """What it makes of the guidance `before` it, None for the first."""

    def left_open(self, *, first: bool) -> tuple[str, ...]:
        """The names, in `Own`, of what it takes from the model."""


@dataclass(frozen=True, slots=True)
class AskedHistory:
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

    def after(self, before: g.Guidance | None, own: Own) -> g.Guidance:
        """The preset, added to what came before or to text guidance of its own."""
        text = _or(self.text_scale, MAGI_TEXT if self.preset == THREE else own.text_scale)
        scale = _or(self.scale, own.scale if self._overshoots else USUAL_SCALE)
        made = self._sum(scale, text, NONE[self.none_as or self._usual_none(own)])
        if before is not None:
            made = g.extended(before, made)
        elif self.preset not in (TEXT, JOINT, THREE):
            made = g.extended(g.cfg(text), made)
        return g.stabilised(made, max(made.stabilise, self.stabilise))

    def left_open(self, *, first: bool) -> tuple[str, ...]:
        """As in `Step`."""
        found = []
        if self.scale is None and self._overshoots:
            found.append("scale")
        if self.text_scale is None and (self.preset == TEXT or first and self._adds_text):
            found.append("text_scale")
        if self.none_as is None and self.preset not in (TEXT, TEMPORAL, THREE):
            found.append("none_as")
        return tuple(found)

    @property
    def _adds_text(self) -> bool:
        return self.preset not in (JOINT, THREE)

    @property
    def _overshoots(self) -> bool:
        """Whether its scale pushes away from no history alone."""
        return self.preset in (VANILLA, TEMPORAL_NONE)

    def _usual_none(self, own: Own) -> str:
        return NOTHING if self.preset == THREE else own.none_as

    def _sum(self, scale: float, text: float, none: g.View) -> g.Guidance:
        """The preset's own sum; text guidance only where it is a term of it."""
        short = g.last(self.short_frames, exact=self.exact)
        none = replace(none, exact=self.exact) if none == g.SINK else none
        made: dict[str, Callable[[], g.Guidance]] = {
            TEXT: lambda: g.cfg(text),
            VANILLA: lambda: g.vanilla(scale, none),
            JOINT: lambda: g.vanilla(scale, none, drop_prompt=True),
            TEMPORAL: lambda: g.temporal(self.short_share, short),
            TEMPORAL_NONE: lambda: g.temporal(self.short_share, short, scale=scale, none=none),
            FRACTIONAL: lambda: g.fractional(scale, self.level, none),
            THREE: lambda: g.magi(scale, text, none),
        }
        return made[self.preset]()


@dataclass(frozen=True, slots=True)
class AskedTerm:
    """What Guidance Term adds: these branches, in place of as much of the whole history."""

    branches: tuple[g.Branch, ...]

    def after(self, before: g.Guidance | None, own: Own) -> g.Guidance:
        """As in `Step`."""
        return g.extended(before or g.Guidance(), g.Guidance(self.branches))

    def left_open(self, *, first: bool) -> tuple[str, ...]:
        """Nothing."""
        return ()


@dataclass(frozen=True, slots=True)
class AskedOptions:
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
                (_or(self.from_level, low), _or(self.to_level, high)),
                self.per_step or when.per_step,
                _or(self.first_chunk, when.first_chunk),
            ),
            limits=g.Limits(
                _or(self.rescale, limits.rescale), _or(self.norm_cap, limits.norm_cap) or None
            ),
            at_once=before.at_once and not self.one_at_a_time,
        )

    def left_open(self, *, first: bool) -> tuple[str, ...]:
        """Nothing."""
        return ()


@dataclass(frozen=True, slots=True)
class AskedGuidance:
    """What a chain of guidance nodes asks for, node by node, and the scores among them.

    `node_id` is the last of them, under which the sampler says what it all costs.
    """

    steps: tuple[Step, ...] = ()
    pulls: tuple[g.Pull, ...] = ()
    node_id: str | None = field(default=None, compare=False)

    def then(self, step: Step, node_id: str | None = None) -> AskedGuidance:
        """One node more. What no model could take is refused here."""
        made = replace(self, steps=(*self.steps, step), node_id=node_id)
        made.for_model(DEMO, sink=True)
        return made

    def pulled(self, pull: g.Pull, node_id: str | None = None) -> AskedGuidance:
        """With one score more."""
        return replace(self, pulls=(*self.pulls, pull), node_id=node_id)

    def for_model(self, preset: Preset, *, sink: bool) -> g.Guidance:
        """The guidance of a shot by a model with that preset; `sink`: its KV cache has one."""
        made: g.Guidance | None = None
        for step in self.steps:
            made = step.after(made, Own.of(preset, sink=sink))
        return replace(made or g.Guidance(), pulls=self.pulls)

    def taken(self, preset: Preset, *, sink: bool) -> dict[str, object]:
        """By name, what of it is that model's."""
        own = Own.of(preset, sink=sink)
        return {name: getattr(own, name) for name in self.left_open}

    def guided(self, made: g.Guidance) -> Callable[[float], g.Guidance]:
        """What another strength makes of the guidance that was `made` of it."""
        return made.scaled

    @property
    def left_open(self) -> tuple[str, ...]:
        """The names of what is from the model."""
        found = (step.left_open(first=i == 0) for i, step in enumerate(self.steps))
        return tuple(dict.fromkeys(name for of_step in found for name in of_step))

    @property
    def told(self) -> str:
        """The branches and what they cost a step, as far as that is known without a model."""
        if self.left_open:
            *others, last = self.left_open
            names = f"{', '.join(others)} and {last}" if others else last
            verb = "is" if len(self.left_open) == 1 else "are"
            return f"{names} {verb} from the model: the sampler says the value and the cost."
        return evaluated(self.for_model(DEMO, sink=True))


@dataclass(frozen=True, slots=True)
class AskedCfg:
    """What the sampler's own `cfg` asks for, which counts without a guidance; None: the model's."""

    scale: float | None = None

    def for_model(self, preset: Preset, *, sink: bool) -> g.Guidance:
        """As of `AskedGuidance`."""
        return g.cfg(_or(self.scale, preset.guidance_scale))

    def taken(self, preset: Preset, *, sink: bool) -> dict[str, object]:
        """As of `AskedGuidance`."""
        return {"cfg": preset.guidance_scale} if self.scale is None else {}

    def guided(self, made: g.Guidance) -> Callable[[float], g.Guidance]:
        """A strength is the scale itself."""
        return g.cfg


def _or(asked: T | None, other: T) -> T:
    return other if asked is None else asked
