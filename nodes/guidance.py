"""History Guidance: presets of which histories are combined, and how strongly."""

from __future__ import annotations

from dataclasses import replace

from comfy_api.latest import io

from ..model.preset import DEMO
from ..samplers import guidance as g
from . import host, sockets
from .schema import build

TEXT, VANILLA, JOINT = "text only", "vanilla", "vanilla with text"
TEMPORAL, TEMPORAL_NONE = "temporal", "temporal and none"
FRACTIONAL, THREE = "fractional", "three branches"
NOISE, SINK, NOTHING = "pure noise", "sink", "nothing"
NONE = {NOISE: g.NOISE, SINK: g.SINK, NOTHING: g.DROP}
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
            category=sockets.CATEGORY,
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
        guidance: g.Guidance | None = None,
    ) -> io.NodeOutput:
        """The preset, added to what came before or to text guidance of its own."""
        short, none = g.last(short_frames, exact=exact), NONE[none_as]
        none = replace(none, exact=exact) if none_as == SINK else none
        made = preset_guidance(preset, scale, text_scale, level, short, short_share, none)
        if guidance is not None:
            made = g.extended(guidance, made)
        elif preset not in (TEXT, JOINT, THREE):
            made = g.extended(g.cfg(text_scale), made)
        made = g.stabilised(made, max(made.stabilise, stabilise))
        host.say(cls.hidden.unique_id, summary(made))
        return io.NodeOutput(made)


def preset_guidance(  # noqa: PLR0913
    preset: str,
    scale: float,
    text_scale: float,
    level: float,
    short: g.View,
    short_share: float,
    none: g.View,
) -> g.Guidance:
    """The guidance of a preset's name; text guidance only where it is a term of the preset."""
    if preset == VANILLA:
        return g.vanilla(scale, none)
    if preset == JOINT:
        return g.vanilla(scale, none, drop_prompt=True)
    if preset == TEMPORAL:
        return g.temporal(short_share, short)
    if preset == TEMPORAL_NONE:
        return g.temporal(short_share, short, scale=scale, none=none)
    if preset == FRACTIONAL:
        return g.fractional(scale, level, none)
    return g.magi(scale, text_scale, none) if preset == THREE else g.cfg(text_scale)


def summary(guidance: g.Guidance) -> str:
    """The branches and what they cost, as far as that is known without model and schedule."""
    count = len(guidance.branches)
    evaluations = "1 model evaluation" if count == 1 else f"{count} model evaluations"
    terms = ", ".join(
        f"{b.weight:g} x {b.view}{' (negative prompt)' if b.prompt == 'negative' else ''}"
        for b in guidance.branches
    )
    return f"{evaluations} a step: {terms}."


def _scales() -> list[io.Input]:
    return [
        io.Combo.Input(
            "preset",
            options=[TEXT, VANILLA, JOINT, TEMPORAL, TEMPORAL_NONE, FRACTIONAL, THREE],
            default=TEMPORAL,
            tooltip="`text only` is CFG. `vanilla` pushes away from no history: steadier, and "
            "above 2 nearly still; `with text` pushes away from no prompt too, at no more cost. "
            "`temporal` averages long and short history and cannot overshoot; `and none` also "
            "pushes away from none. `fractional` pushes away from none towards noisy history: "
            "keeps motion. `three` branches is MAGI-1's sum.",
        ),
        io.Float.Input(
            "scale",
            default=1.5,
            min=0.0,
            max=STRONGEST,
            step=0.1,
            tooltip="Strength of the history (no unit, 0 to 30); 1 is none. Start with 1.2 to 1.5. "
            "Not used by `text only` and `temporal`.",
        ),
        io.Float.Input(
            "text_scale",
            default=DEMO.guidance_scale,
            min=0.0,
            max=STRONGEST,
            step=0.1,
            tooltip="Strength of the prompt, as the sampler's cfg (no unit, 0 to 30); 1 is none "
            "and saves an evaluation. Not used by `vanilla with text`; with a guidance connected "
            "only by `text only` and `three branches`.",
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
            options=[NOISE, SINK, NOTHING],
            default=NOISE,
            tooltip="What no history is. `pure noise`: for models trained by Diffusion Forcing, as "
            "the demo. `sink`: only the first frames; for the Self-Forcing family, needs a sink in "
            "KV Cache Settings. `nothing`: the model believes it makes a first chunk; for MAGI.",
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
            tooltip="Another guidance node, to which this one adds its history; text guidance then "
            "is that node's.",
        ),
    ]
