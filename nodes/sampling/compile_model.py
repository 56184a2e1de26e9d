"""Compile Model (Stream): a MODEL whose runs compile its arithmetic before their first chunk."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from ...attention.backends import compiler_reason
from ...model.arithmetic.compiled import inductor
from .. import categories, host
from ..models.vace import model_sizes
from ..runtime.compiler import with_compiler
from ..schema import build


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
        return io.NodeOutput(with_compiler(model, inductor))
