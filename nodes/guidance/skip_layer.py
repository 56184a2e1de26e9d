"""Skip-Layer Guidance: pushes away from what the model predicts without some of its layers."""

from __future__ import annotations

from comfy_api.latest import io

from ...characters import excerpt, list_entries
from ...errors import BadInput
from ...samplers import guidance as g
from .. import categories, host, sockets
from ..schema import build
from ..validation import refuses
from .guidance_spec import GuidanceSpec, SkippedLayersSpec, check_interval
from .history_guidance import MAX_STRENGTH

IN_NEGATIVE, OWN_PASS = "negative prompt", "own pass"
USUAL = "9"
DIGITS = 3  # of a layer's number, more than any model needs


def parse_layers(layers: str) -> tuple[int, ...]:
    """Read numbers of layers from a line such as `9, 10`, in any order."""
    entries = list_entries(layers)
    known = [entry for entry in entries if entry.isdecimal() and len(entry) <= DIGITS]
    if not entries or known != entries:
        raise BadInput(
            f"layers is {excerpt(layers)}; write the numbers of the layers to skip, such as `9` or "
            "`9, 10`. The first layer is 0."
        )
    return tuple(sorted({*map(int, entries)}))


def check_skipped(layers: str, from_level: float, to_level: float) -> None:
    """Refuse (BadInput) what names no layers, and levels that have nothing between them."""
    parse_layers(layers)
    check_interval(from_level, to_level, "layers are skipped")


@refuses(check_skipped)
class SkipLayerGuidance(io.ComfyNode):
    """Skip-layer guidance, added to a guidance chain."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return build(
            io.Schema,
            node_id="LongtakeSkipLayerGuidance",
            display_name="Skip-Layer Guidance",
            category=categories.GUIDE,
            description="Pushes away from what the model predicts without some of its layers, "
            "which is like the picture but worse. For models of many steps; free in the negative "
            "prompt's pass.",
            search_aliases=["SLG", "skip layer guidance", "STG", "skip blocks",
                            "perturbed attention"],
            inputs=_inputs(),
            outputs=[sockets.Guidance.Output(display_name="guidance")],
            hidden=[io.Hidden.unique_id],
        )  # fmt: skip

    @classmethod
    def execute(  # noqa: PLR0913
        cls,
        layers: str,
        skip_in: str,
        scale: float,
        from_level: float,
        to_level: float,
        guidance: GuidanceSpec | None = None,
    ) -> io.NodeOutput:
        """Append skip-layer guidance to the chain."""
        check_skipped(layers, from_level, to_level)
        node_id = cls.hidden.unique_id
        skipped = g.SkippedLayers(parse_layers(layers), (from_level, to_level))
        step = SkippedLayersSpec(skipped, None if skip_in == IN_NEGATIVE else scale)
        chain = (guidance or GuidanceSpec()).then(step, node_id)
        host.show_status(node_id, chain.summary)
        return io.NodeOutput(chain)


def _inputs() -> list[io.Input]:
    return [
        io.String.Input(
            "layers",
            default=USUAL,
            tooltip="Numbers of the layers to skip, such as `9` or `9, 10`; the first is 0. Wan "
            "1.3B has 30 layers, 14B has 40. Early layers change the picture most.",
        ),
        io.Combo.Input(
            "skip_in",
            options=[IN_NEGATIVE, OWN_PASS],
            default=IN_NEGATIVE,
            tooltip="`negative prompt`: the pass of the negative prompt skips the layers, at no "
            "cost; connect History Guidance with text_scale above 1. `own pass`: one more model "
            "evaluation a step, at `scale`.",
        ),
        io.Float.Input(
            "scale",
            default=1.0,
            min=0.0,
            max=MAX_STRENGTH,
            step=0.1,
            tooltip="For `own pass`: how far to push away (no unit, 0 to 30). 0 is off; 1 to 3 is "
            "usual.",
        ),
        _level(
            "from_level",
            0.0,
            "Layers are skipped from this noise level (0 to 1) up.",
        ),
        _level(
            "to_level",
            0.95,
            "Layers are skipped up to this noise level (0 to 1). The noisiest steps, which decide "
            "on layout and motion, keep all layers.",
        ),
        sockets.Guidance.Input(
            "guidance",
            optional=True,
            tooltip="Another guidance node, to which this one adds. Without it: the prompt alone.",
        ),
    ]


def _level(name: str, default: float, tooltip: str) -> io.Input:
    return io.Float.Input(
        name, default=default, min=0.0, max=1.0, step=0.01, advanced=True, tooltip=tooltip
    )
