"""Guidance Term: one weighted view of the history, or one prompt, added to a guidance."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from ...errors import BadInput
from ...samplers import guidance as g
from .. import categories, host, sockets
from ..attachments import unread_numbers
from ..conditioning import prompt_plan
from ..conditioning.timeline import Timeline
from ..schema import build
from ..validation import refuses
from .guidance_spec import GuidanceSpec, GuidanceTermSpec
from .history_guidance import MAX_STRENGTH

ALL, RANGE, SINK, NOTHING, NOISE = "all", "range", "sink", "nothing", "pure noise"
POSITIVE, NEGATIVE = "positive", "negative"


def _check_ages(view: str, newest: int, oldest: int) -> None:
    """Refuse (BadInput) a range that ends before it begins."""
    if view == RANGE:
        _ages(newest, oldest)


@refuses(_check_ages)
class GuidanceTerm(io.ComfyNode):
    """One term of a guidance sum."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return build(
            io.Schema,
            node_id="LongtakeGuidanceTerm",
            display_name="Guidance Term",
            category=categories.GUIDE,
            description="Adds weight x (prediction with this view or prompt - prediction with the "
            "whole history). Chain any number; a branch that two terms share is evaluated once.",
            search_aliases=["compose guidance", "branch", "history view"],
            inputs=[*_view(), _chain(), _own_prompt()],
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
        """Append the term to the chain."""
        ages = {
            ALL: g.AllFrames(),
            SINK: g.SinkFrames(),
            NOTHING: g.NoFrames(),
            NOISE: g.AllFrames(),
        }
        part = _ages(newest, oldest) if view == RANGE else ages[view]
        history = g.View(part, 1.0 if view == NOISE else level, exact)
        text = prompt if own_prompt is None else prompt_plan.own_prompt(own_prompt)
        branches = g.merge_branches([g.Branch(1 - weight), g.Branch(weight, text, history)])
        chain = (guidance or GuidanceSpec()).then(GuidanceTermSpec(branches), cls.hidden.unique_id)
        warnings = unread_numbers(own_prompt)
        host.show_status(cls.hidden.unique_id, chain.summary, *warnings)
        return io.NodeOutput(chain)


def _ages(newest: int, oldest: int) -> g.AgeRange:
    if newest > oldest:
        raise BadInput(
            f"newest is {newest} and oldest {oldest}, and ages count back from the last finished "
            "latent frame; set newest to at most oldest."
        )
    return g.AgeRange(newest, oldest)


def _view() -> list[io.Input]:
    return [
        io.Float.Input(
            "weight",
            default=0.5,
            min=-MAX_STRENGTH,
            max=MAX_STRENGTH,
            step=0.1,
            tooltip="Weight of this view (no unit, -30 to 30). The whole history loses the same "
            "weight. A negative weight pushes away from the view.",
        ),
        io.Combo.Input(
            "view",
            options=[ALL, RANGE, SINK, NOTHING, NOISE],
            default=RANGE,
            tooltip="The part of the history that this branch sees. `all`: everything, useful with "
            "a noise level or the negative prompt. `range`: frames from newest to oldest, below. "
            "`sink`: the first frames. `nothing`: no history. `pure noise`: noise in place of "
            "every frame.",
        ),
        io.Int.Input(
            "newest",
            default=1,
            min=1,
            max=4096,
            tooltip="For `range`: age of its newest latent frame, 1 to 4096. 1 is the last "
            "finished one.",
        ),
        io.Int.Input(
            "oldest",
            default=4,
            min=1,
            max=4096,
            tooltip="For `range`: age of its oldest latent frame, 1 to 4096.",
        ),
        io.Float.Input(
            "level",
            default=0.0,
            min=0.0,
            max=1.0,
            step=0.05,
            advanced=True,
            tooltip="Noise level of this view, 0 to 1. Above 0 the view needs its own KV cache.",
        ),
        io.Boolean.Input(
            "exact",
            default=False,
            advanced=True,
            tooltip="On: runs this part of the history through the model alone before each chunk. "
            "Off: cuts it out of the KV cache, whose keys remember the other frames.",
        ),
        io.Combo.Input(
            "prompt",
            options=[POSITIVE, NEGATIVE],
            default=POSITIVE,
            tooltip="`positive`: the prompt of the moment. `negative`: the negative prompt. Not "
            "used if own_prompt is connected.",
        ),
    ]


def _chain() -> io.Input:
    return sockets.Guidance.Input(
        "guidance",
        optional=True,
        tooltip="Another guidance node, to which this one adds. Without it: the prompt alone.",
    )


def _own_prompt() -> io.Input:
    return io.MultiType.Input(
        "own_prompt",
        [sockets.Timeline, io.Conditioning],
        optional=True,
        advanced=True,
        tooltip="A prompt for this term only, for the whole shot: CLIP Text Encode, or a Prompt "
        "Timeline of one line. It needs its own KV cache.",
    )
