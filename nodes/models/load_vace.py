"""Load VACE Module: a control module beside a causal Wan MODEL."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from ...model.fingerprint import fingerprint
from ...model.vace.file import open_module
from ...units import byte_size
from .. import categories, host
from ..schema import build
from .load_model import FOLDER
from .pair import refuse_experts
from .vace import model_sizes, with_vace


class LoadVaceModule(io.ComfyNode):
    """MODEL and a file to MODEL."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return build(
            io.Schema,
            node_id="LongtakeLoadVace",
            display_name="Load VACE Module",
            category=categories.LOAD,
            description="Puts VACE's control module beside a Wan model, which then follows a "
            "control video: depth, pose, scribble, layout, masks, reference pictures. The model "
            "itself stays as it is.",
            search_aliases=["vace", "controlnet", "control module", "wan vace", "inpaint",
                            "depth", "pose"],
            inputs=[
                io.Model.Input(
                    "model", tooltip="A causal Wan 2.1 model, or another Wan 2.1 model."
                ),
                io.Combo.Input(
                    "vace_name",
                    options=host.model_files(FOLDER),
                    tooltip="A file in models/diffusion_models: a VACE module, or a whole Wan-VACE "
                    "model, of which only the module is read. It must be made for a model of the "
                    "same size (1.3B or 14B).",
                ),
            ],
            outputs=[io.Model.Output()],
            hidden=[io.Hidden.unique_id],
        )  # fmt: skip

    @classmethod
    def execute(cls, model: Any, vace_name: str) -> io.NodeOutput:
        """Read the module in the model's dtype, and show its size."""
        refuse_experts(model, "Load VACE Module")
        module, sizes = open_module(host.model_file(FOLDER, vace_name), model_sizes(model))
        module.computing_in(host.compute_place(model)[1])
        weights = dict(module.named_parameters())
        size = byte_size(sum(weight.nbytes for weight in weights.values()))
        host.show_status(
            cls.hidden.unique_id, f"VACE module: {sizes.control_blocks} blocks, {size}."
        )
        return io.NodeOutput(with_vace(model, module, sizes.control_blocks, fingerprint(weights)))

    @classmethod
    def fingerprint_inputs(cls, vace_name: str, **others: Any) -> Any:
        """Change with the file."""
        return host.file_stamp(FOLDER, vace_name)
