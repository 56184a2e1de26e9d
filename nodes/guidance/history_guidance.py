"""History Guidance: combine predictions that see different parts of the history."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from ...samplers.schedule.options import FROM_MODEL
from .. import categories, host, sockets
from ..from_model import set_or_none
from ..schema import build
from ..validation import refuses
from .guidance_spec import GuidanceOptionsSpec, GuidanceSpec
from .history_spec import (
    FRACTIONAL,
    JOINT,
    NOISE,
    NOTHING,
    SINK,
    TEMPORAL,
    TEMPORAL_NONE,
    TEXT,
    THREE,
    VANILLA,
    HistoryGuidanceSpec,
)
from .options import check_levels, option_inputs, parse_factors, read_options

MAX_STRENGTH = 30.0


@refuses(check_levels, parse_factors)
class HistoryGuidance(io.ComfyNode):
    """A preset of History Guidance, with its options."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return build(
            io.Schema,
            node_id="LongtakeHistoryGuidance",
            display_name="History Guidance",
            category=categories.GUIDE,
            description="Sets how strongly the video follows its own past and the prompt. Combines "
            "predictions that see different parts of the history, and shows the cost.",
            search_aliases=["dfot", "cfg", "guidance", "hg-v", "hg-f", "magi", "temporal",
                            "guidance interval", "rescale cfg", "cfg schedule"],
            inputs=[*_scales(), *_histories(), *option_inputs()],
            outputs=[sockets.Guidance.Output(display_name="guidance")],
            hidden=[io.Hidden.unique_id],
        )  # fmt: skip

    @classmethod
    def execute(  # noqa: PLR0913
        cls,
        preset: str,
        scale: float,
        text_scale: float,
        level: float,
        short_frames: int,
        short_share: float,
        none_as: str,
        exact: bool,
        stabilise: float,
        guidance: GuidanceSpec | None = None,
        **options: Any,
    ) -> io.NodeOutput:
        """Append the preset, then its options, to the chain."""
        step = HistoryGuidanceSpec(
            preset,
            set_or_none("scale", scale, 0.0),
            set_or_none("text_scale", text_scale, 0.0),
            level,
            short_frames,
            short_share,
            None if none_as == FROM_MODEL else none_as,
            exact,
            stabilise,
        )
        node_id, changes = cls.hidden.unique_id, read_options(options)
        chain = (guidance or GuidanceSpec()).then(step, node_id)
        if changes != GuidanceOptionsSpec():
            chain = chain.then(changes, node_id)
        host.show_status(node_id, chain.summary)
        return io.NodeOutput(chain)


def _scales() -> list[io.Input]:
    return [
        io.Combo.Input(
            "preset",
            options=[TEXT, VANILLA, JOINT, TEMPORAL, TEMPORAL_NONE, FRACTIONAL, THREE],
            default=TEMPORAL,
            tooltip="`text only`: plain CFG. `vanilla`: pushes away from no history; steadier, but "
            "above scale 1.2 (demo) past errors grow until pictures break. `vanilla with text`: "
            "also pushes away from no prompt, at no extra cost. `temporal`: averages long and "
            "short history; cannot overshoot. `temporal and none`: also pushes away from no "
            "history. `fractional`: pushes toward noisy history; keeps motion. `three "
            "branches`: MAGI-1.",
        ),
        io.Float.Input(
            "scale",
            default=-1.0,
            min=-1.0,
            max=MAX_STRENGTH,
            step=0.1,
            tooltip="Strength of the history (no unit, 0 to 30). 1 is off. -1: from model for "
            "`vanilla` and `temporal and none` (demo 1.2, others 1.5), 1.5 for the rest. Not used "
            "by `text only` and `temporal`.",
        ),
        io.Float.Input(
            "text_scale",
            default=-1.0,
            min=-1.0,
            max=MAX_STRENGTH,
            step=0.1,
            tooltip="Strength of the prompt, like the sampler's cfg (no unit, 0 to 30). 1 is off "
            "and saves an evaluation. -1: from model; 7.5 for `three branches`. Not used by "
            "`vanilla with text`. In a chain, only one node's value counts: see the help.",
        ),
        sockets.Guidance.Input(
            "guidance",
            optional=True,
            tooltip="Another guidance node, to which this one adds. The order does not matter. "
            "`three branches` cannot be chained to another History Guidance.",
        ),
    ]


def _histories() -> list[io.Input]:
    return [
        io.Float.Input(
            "level",
            default=0.75,
            min=0.0,
            max=1.0,
            step=0.05,
            advanced=True,
            tooltip="For `fractional`: noise level of the noisy history, 0 to 1. 0 acts like "
            "`vanilla`, 1 is off; 0.6 to 0.85 is useful.",
        ),
        io.Int.Input(
            "short_frames",
            default=4,
            min=1,
            max=4096,
            advanced=True,
            tooltip="For `temporal`: latent frames in the short history, 1 to 4096.",
        ),
        io.Float.Input(
            "short_share",
            default=0.5,
            min=0.0,
            max=1.0,
            step=0.05,
            advanced=True,
            tooltip="For `temporal`: weight of the short history (no unit, 0 to 1).",
        ),
        io.Combo.Input(
            "none_as",
            options=[FROM_MODEL, NOISE, SINK, NOTHING],
            default=FROM_MODEL,
            advanced=True,
            tooltip='What stands for "no history". `from model`: what suits the model. `pure '
            "noise`: for models trained by Diffusion Forcing, like the demo. `sink`: the first "
            "frames only, for the Self-Forcing family; needs a sink in KV Cache Settings. "
            "`nothing`: as if for a first chunk, for MAGI.",
        ),
        io.Boolean.Input(
            "exact",
            default=False,
            advanced=True,
            tooltip="On: runs a short history through the model alone before each chunk; costs "
            "time and memory. Off: cuts it out of the KV cache, where it still remembers older "
            "frames.",
        ),
        io.Float.Input(
            "stabilise",
            default=0.0,
            min=0.0,
            max=0.5,
            step=0.01,
            advanced=True,
            tooltip="Noise level, 0 to 0.5, added to generated frames in the history; known frames "
            "stay clean. 0.02 to 0.05 can stop long shots from drifting.",
        ),
    ]
