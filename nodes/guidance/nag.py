"""NAG Guidance: a negative prompt for models without CFG, at no model evaluation."""

from __future__ import annotations

from comfy_api.latest import io

from ...samplers import guidance as g
from .. import categories, host, sockets
from ..schema import build
from .guidance_spec import GuidanceSpec, NAGSpec

PUBLISHED = g.NormalizedAttention()


class NAGGuidance(io.ComfyNode):
    """NAG, added to a guidance chain."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return build(
            io.Schema,
            node_id="LongtakeNAGGuidance",
            display_name="NAG Guidance",
            category=categories.GUIDE,
            description="Makes a model of few steps obey the negative prompt at cfg 1: pushes "
            "attention to the prompt away from that to the negative one. Costs no model "
            "evaluation.",
            search_aliases=["normalized attention guidance", "negative prompt", "nag",
                            "cfg 1", "distilled"],
            inputs=_inputs(),
            outputs=[sockets.Guidance.Output(display_name="guidance")],
            hidden=[io.Hidden.unique_id],
        )  # fmt: skip

    @classmethod
    def execute(
        cls, scale: float, tau: float, alpha: float, guidance: GuidanceSpec | None = None
    ) -> io.NodeOutput:
        """Append NAG to the chain."""
        node_id, step = cls.hidden.unique_id, NAGSpec(g.NormalizedAttention(scale, tau, alpha))
        chain = (guidance or GuidanceSpec()).then(step, node_id)
        host.show_status(node_id, chain.summary)
        return io.NodeOutput(chain)


def _inputs() -> list[io.Input]:
    return [
        io.Float.Input(
            "scale",
            default=PUBLISHED.scale,
            min=1.0,
            max=50.0,
            step=0.1,
            tooltip="How far to push from the negative prompt (no unit, 1 to 50). 1 is off; 3 is "
            "gentle, 11 is usual for Wan. Write the negative prompt into `negative` of Prompt "
            "Timeline.",
        ),
        io.Float.Input(
            "tau",
            default=PUBLISHED.tau,
            min=1.0,
            max=10.0,
            step=0.1,
            advanced=True,
            tooltip="How large the push may make a token, as a multiple of its size (no unit, 1 to "
            "10). Lower where colours are too strong.",
        ),
        io.Float.Input(
            "alpha",
            default=PUBLISHED.alpha,
            min=0.0,
            max=1.0,
            step=0.05,
            advanced=True,
            tooltip="Share of the pushed attention in the result (no unit, 0 to 1). 0 is off, 1 is "
            "the push alone.",
        ),
        sockets.Guidance.Input(
            "guidance",
            optional=True,
            tooltip="Another guidance node, to which this one adds. Without it: the prompt alone.",
        ),
    ]
