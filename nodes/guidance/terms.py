"""Guidance Term and Guidance Options: any history one likes, and where along the way it acts."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from ...errors import BadInput
from ...samplers import guidance as g
from .. import categories, host, sockets
from ..conditioning import prompt_plan
from ..conditioning.timeline import Timeline
from ..schema import build
from .guidance_spec import GuidanceOptionsSpec, GuidanceSpec, GuidanceTermSpec
from .history_guidance import STRONGEST

ALL, RANGE, SINK, NOTHING, NOISE = "all", "range", "sink", "nothing", "pure noise"
POSITIVE, NEGATIVE = "positive", "negative"


class GuidanceTerm(io.ComfyNode):
    """One term of a free composition."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """The node's definition."""
        return build(
            io.Schema,
            node_id="LongtakeGuidanceTerm",
            display_name="Guidance Term",
            category=categories.GUIDE,
            description="Adds weight x (what this view of the history, or this prompt, predicts - "
            "what the whole history predicts). Chain as many as you like; what is used twice is "
            "evaluated once.",
            search_aliases=["compose guidance", "branch", "history view"],
            inputs=[*_view(), _earlier(), _own_prompt()],
            outputs=[sockets.Guidance.Output(display_name="guidance")],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def execute(  # noqa: PLR0913
        cls,
        weight: float,
        view: str,
        newest: int,
        oldest: int,
        level: float,
        exact: bool,
        prompt: str,
        guidance: GuidanceSpec | None = None,
        own_prompt: Timeline | list[Any] | None = None,
    ) -> io.NodeOutput:
        """The earlier guidance with one more term."""
        seen = {ALL: g.All(), SINK: g.Sink(), NOTHING: g.Nothing(), NOISE: g.All()}
        of = g.AgeRange(newest, oldest) if view == RANGE else seen[view]
        history = g.View(of, 1.0 if view == NOISE else level, exact)
        said = prompt if own_prompt is None else prompt_plan.own_prompt(own_prompt)
        terms = g.merged([g.Branch(1 - weight), g.Branch(weight, said, history)])
        made = (guidance or GuidanceSpec()).then(GuidanceTermSpec(terms), cls.hidden.unique_id)
        host.show_status(cls.hidden.unique_id, made.told)
        return io.NodeOutput(made)


class GuidanceOptions(io.ComfyNode):
    """Where guidance acts and what bounds it."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """The node's definition."""
        return build(
            io.Schema,
            node_id="LongtakeGuidanceOptions",
            display_name="Guidance Options",
            category=categories.GUIDE,
            description="At which noise levels and steps a guidance acts, and bounds on it; what "
            "is left alone stays. The bounds are not linear: they change what the sum means.",
            search_aliases=["guidance interval", "rescale cfg", "norm cap", "cfg schedule"],
            inputs=[
                sockets.Guidance.Input("guidance", tooltip="The guidance to change."),
                *_when(),
                *_limits(),
            ],
            outputs=[sockets.Guidance.Output(display_name="guidance")],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def execute(  # noqa: PLR0913
        cls,
        guidance: GuidanceSpec,
        from_level: float,
        to_level: float,
        per_step: str,
        first_chunk: float,
        rescale: float,
        norm_cap: float,
        one_at_a_time: bool,
    ) -> io.NodeOutput:
        """The same terms under these options."""
        asked = GuidanceOptionsSpec(
            _chosen(from_level),
            _chosen(to_level),
            factors(per_step),
            _chosen(first_chunk),
            _chosen(rescale),
            _chosen(norm_cap),
            one_at_a_time,
        )
        made = guidance.then(asked, cls.hidden.unique_id)
        host.show_status(cls.hidden.unique_id, made.told)
        return io.NodeOutput(made)


def factors(written: str) -> tuple[float, ...]:
    """Numbers from a line such as `1, 1, 0.5`; an empty line is none."""
    words = written.replace(",", " ").split()
    try:
        return tuple(float(word) for word in words)
    except ValueError as error:
        raise BadInput(
            f"per_step is {written!r}; write numbers such as `1, 1, 0.5`, one for each step."
        ) from error


def _chosen(value: float) -> float | None:
    """A widget's value; below 0 none is chosen."""
    return None if value < 0 else value


def _view() -> list[io.Input]:
    return [
        io.Float.Input(
            "weight",
            default=0.5,
            min=-STRONGEST,
            max=STRONGEST,
            step=0.1,
            tooltip="Weight of this view (no unit, -30 to 30); the whole history gets that much "
            "less. Negative pushes away from it.",
        ),
        io.Combo.Input(
            "view",
            options=[ALL, RANGE, SINK, NOTHING, NOISE],
            default=RANGE,
            tooltip="`all` of the history (useful with a noise level or the negative prompt); "
            "`range` of ages below; `sink`: the first frames; `nothing`; `pure noise` in place of "
            "every frame.",
        ),
        io.Int.Input(
            "newest",
            default=1,
            min=1,
            max=4096,
            tooltip="For `range`: how many latent frames back it begins, 1 to 4096; 1 is the "
            "newest finished one.",
        ),
        io.Int.Input(
            "oldest",
            default=4,
            min=1,
            max=4096,
            tooltip="For `range`: how many latent frames back it ends, 1 to 4096.",
        ),
        io.Float.Input(
            "level",
            default=0.0,
            min=0.0,
            max=1.0,
            step=0.05,
            tooltip="Noise level of this view, 0 to 1. Above 0 it has a KV cache of its own.",
        ),
        io.Boolean.Input(
            "exact",
            default=False,
            tooltip="On: this part of the history passes through the model alone before each "
            "chunk; off: it is cut out of the KV cache, whose keys remember the rest.",
        ),
        io.Combo.Input(
            "prompt",
            options=[POSITIVE, NEGATIVE],
            default=POSITIVE,
            tooltip="`positive`: the prompt in force; `negative`: the negative one. Not used where "
            "own_prompt is connected.",
        ),
    ]


def _earlier() -> io.Input:
    return sockets.Guidance.Input(
        "guidance",
        optional=True,
        tooltip="Another guidance node, to which this one adds; without it, the prompt alone.",
    )


def _own_prompt() -> io.Input:
    return io.MultiType.Input(
        "own_prompt",
        [sockets.Timeline, io.Conditioning],
        optional=True,
        tooltip="A prompt of this term's own, throughout the shot: CLIP Text Encode, or a Prompt "
        "Timeline of one line. It has a KV cache of its own.",
    )


def _when() -> list[io.Input]:
    return [
        _number(
            "from_level",
            1.0,
            "The lowest noise level, 0 to 1, at which it acts; elsewhere the whole history is "
            "alone. 0.7 suits few-step models.",
        ),
        _number("to_level", 1.0, "The highest noise level, 0 to 1, at which it acts."),
        io.String.Input(
            "per_step",
            default="",
            tooltip="Factors on the strength of each step of a chunk, such as `1, 1, 0.5`; the "
            "last one holds on. Empty: as it is, without another node 1 throughout.",
        ),
        _number(
            "first_chunk",
            10.0,
            "Factor on the strength while there is no history yet (no unit, 0 to 10).",
        ),
    ]


def _limits() -> list[io.Input]:
    return [
        _number(
            "rescale",
            1.0,
            "Brings the spread of the guided prediction back to the unguided one's (no unit, 0 off "
            "to 1 whole); against oversaturation. Not linear.",
        ),
        _number(
            "norm_cap",
            100.0,
            "The most a token's prediction may be, in multiples of the unguided one's (no unit, 0 "
            "to 100; 0 is off, 1.5 to 3 useful). Not linear.",
        ),
        io.Boolean.Input(
            "one_at_a_time",
            default=False,
            tooltip="On: branches are evaluated one after another, with less memory; the result is "
            "the same but for rounding. Off: as it is.",
        ),
    ]


def _number(name: str, most: float, meaning: str) -> io.Input:
    """A number from 0, or -1 for what the guidance has already."""
    step = 0.05 if most == 1 else 0.1
    tooltip = f"{meaning} -1: as it is."
    return io.Float.Input(name, default=-1.0, min=-1.0, max=most, step=step, tooltip=tooltip)
