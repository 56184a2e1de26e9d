"""Compile Model (Stream): a MODEL whose runs compile its arithmetic before their first chunk."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from ...attention.backends import compiler_reason
from ...model.arithmetic.compiled import GraphCompiler, inductor
from .. import categories, host
from ..schema import build
from .pair import second_model
from .vace import model_sizes

KEY = "longtake.compiler"


class CompileModel(io.ComfyNode):
    """MODEL to MODEL, which carries the compiler."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return build(
            io.Schema,
            node_id="LongtakeCompileModel",
            display_name="Compile Model (Stream)",
            category=categories.SAMPLE,
            description="Compiles what the model computes between its layers, with torch.compile. "
            "For large models on a GPU; small models and CPUs gain nothing. The first shot after "
            "each start of ComfyUI waits for the compiler, up to a minute.",
            search_aliases=["torch compile", "inductor", "triton", "speed", "faster",
                            "optimize"],
            inputs=[
                io.Model.Input(
                    "model",
                    tooltip="A Wan model, with or without LoRAs, quantised or not. Only "
                    "Diffusion-Forcing Sampler compiles it.",
                ),
            ],
            outputs=[io.Model.Output()],
            hidden=[io.Hidden.unique_id],
        )  # fmt: skip

    @classmethod
    def execute(cls, model: Any) -> io.NodeOutput:
        """Attach the compiler to a clone, and show at once what this machine lacks for it."""
        model_sizes(model)
        reason = compiler_reason(host.compute_place(model)[0])
        if reason is not None:
            host.warn(cls.hidden.unique_id, f"The model runs uncompiled: {reason}.")
        clone = model.clone()
        host.attach(clone, KEY, inductor)
        return io.NodeOutput(clone)


def compiler_of(model: Any) -> GraphCompiler | None:
    """The compiler that a MODEL carries, or the second model of a pair; None if neither does."""
    second = second_model(model)
    compiler: GraphCompiler | None = host.get_attachment(model, KEY)
    return compiler if compiler or second is None else host.get_attachment(second.model, KEY)
