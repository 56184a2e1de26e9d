"""History Guidance: presets of which histories are combined, and how strongly."""

from __future__ import annotations

from comfy_api.latest import io

from ...samplers.schedule.options import FROM_MODEL
from .. import categories, host, sockets
from ..schema import build
from .guidance_spec import GuidanceSpec
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

STRONGEST = 30.0


class HistoryGuidance(io.ComfyNode):
    """A preset of History Guidance."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """The node's definition."""
        return build(
            io.Schema,
            node_id="LongtakeHistoryGuidance",
            display_name="History Guidance",
            category=categories.GUIDE,
            description="How strongly the video follows its own past, and the prompt: predictions "
            "that see different histories, combined. Says what it costs.",
            search_aliases=["dfot", "cfg", "guidance", "hg-v", "hg-f", "magi", "temporal"],
            inputs=[*_scales(), *_histories()],
            outputs=[sockets.Guidance.Output(display_name="guidance")],
            hidden=[io.Hidden.unique_id],
        )

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
    ) -> io.NodeOutput:
        """The preset, added to what came before; text guidance is the whole chain's."""
        step = HistoryGuidanceSpec(
            preset,
            None if scale < 0 else scale,
            None if text_scale < 0 else text_scale,
            level,
            short_frames,
            short_share,
            None if none_as == FROM_MODEL else none_as,
            exact,
            stabilise,
        )
        made = (guidance or GuidanceSpec()).then(step, cls.hidden.unique_id)
        host.show_status(cls.hidden.unique_id, made.told)
        return io.NodeOutput(made)


def _scales() -> list[io.Input]:
    return [
        io.Combo.Input(
            "preset",
            options=[TEXT, VANILLA, JOINT, TEMPORAL, TEMPORAL_NONE, FRACTIONAL, THREE],
            default=TEMPORAL,
            tooltip="`text only` is CFG. `vanilla` pushes away from no history: steadier, but "
            "errors of the past grow, at 2 and more until pictures break; `with text` pushes away "
            "from no prompt too, at no more cost. `temporal` averages long and short history and "
            "cannot overshoot; `and none` also pushes away from none. `fractional` pushes away "
            "from none towards noisy history: keeps motion. `three` branches is MAGI-1's sum.",
        ),
        io.Float.Input(
            "scale",
            default=-1.0,
            min=-1.0,
            max=STRONGEST,
            step=0.1,
            tooltip="Strength of the history (no unit, 0 to 30); 1 is none. -1 is from the model "
            "for `vanilla` and `temporal and none` (1.2 for the demo, else 1.5), 1.5 for the rest. "
            "Not used by `text only` and `temporal`.",
        ),
        io.Float.Input(
            "text_scale",
            default=-1.0,
            min=-1.0,
            max=STRONGEST,
            step=0.1,
            tooltip="Strength of the prompt, as the sampler's cfg (no unit, 0 to 30); -1 is from "
            "the model, for `three branches` MAGI's 7.5. 1 is none and saves an evaluation. In a "
            "chain that of `text only` counts, else the first History Guidance's; `vanilla with "
            "text` takes its place.",
        ),
        io.Float.Input(
            "level",
            default=0.75,
            min=0.0,
            max=1.0,
            step=0.05,
            tooltip="For `fractional`: the noise level of the noisy history, 0 to 1 (share of "
            "noise). 0 makes it vanilla, 1 turns it off; 0.6 to 0.85 are useful.",
        ),
    ]


def _histories() -> list[io.Input]:
    return [
        io.Int.Input(
            "short_frames",
            default=4,
            min=1,
            max=4096,
            tooltip="For `temporal`: latent frames of the short history, 1 to 4096.",
        ),
        io.Float.Input(
            "short_share",
            default=0.5,
            min=0.0,
            max=1.0,
            step=0.05,
            tooltip="For `temporal`: the short history's share of the sum (no unit, 0 to 1).",
        ),
        io.Combo.Input(
            "none_as",
            options=[FROM_MODEL, NOISE, SINK, NOTHING],
            default=FROM_MODEL,
            tooltip="What no history is. `from model`: what suits it (`three branches`: nothing). "
            "`pure noise`: for models trained by Diffusion Forcing, as the demo. `sink`: only the "
            "first frames; for the Self-Forcing family, needs a sink in KV Cache Settings. "
            "`nothing`: the model believes it makes a first chunk; for MAGI.",
        ),
        io.Boolean.Input(
            "exact",
            default=False,
            tooltip="A short history cut out of the KV cache still remembers the rest. On: it "
            "passes through the model alone before each chunk; costs those passes and memory.",
        ),
        io.Float.Input(
            "stabilise",
            default=0.0,
            min=0.0,
            max=0.5,
            step=0.01,
            tooltip="Noise level, 0 to 0.5, at which generated frames are seen in the history "
            "(known ones stay clean). 0.02 to 0.05 can keep long shots from drifting.",
        ),
        sockets.Guidance.Input(
            "guidance",
            optional=True,
            tooltip="Another guidance node, to which this one adds its history. Text guidance is "
            "added once, in whatever order nodes are chained. `three branches` takes no other "
            "History Guidance.",
        ),
    ]
