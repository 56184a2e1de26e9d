"""Load Demo Model: the small model that ships with Longtake."""

from __future__ import annotations

from dataclasses import replace

from comfy_api.latest import io

from ...model.checkpoint import load_text_encoder, load_tiny_vae, open_checkpoint
from ...model.families.table import BY_KEY
from ...model.preset import DEMO_FOLDER, DEMO_QUALITIES
from ...model.vae.memory_order import order_weights
from .. import categories
from ..schema import build
from .demo_objects import DemoCLIP, DemoVAE
from .load_model import build_model
from .model_facts import attach_family, mark_demo

FAST = "fast"


class LoadDemoModel(io.ComfyNode):
    """MODEL by the host's own loader with the camera's layers, CLIP and VAE by ours."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return build(
            io.Schema,
            node_id="LongtakeLoadDemoModel",
            display_name="Load Demo Model",
            category=categories.LOAD,
            description="Loads a miniature video model that runs on any computer. It knows one "
            "small world: a bouncing ball in a landscape, with a few colours, times of day, "
            "terrains, skies and camera moves.",
            search_aliases=["checkpoint", "load model", "tiny", "example model"],
            inputs=[
                io.Combo.Input(
                    "quality",
                    options=[*DEMO_QUALITIES],
                    default=FAST,
                    optional=True,
                    tooltip="Steps of `from model`: `fast` has 3, `full` has 8. `full` takes "
                    "more than twice as many passes.",
                )
            ],
            outputs=[io.Model.Output(), io.Clip.Output(), io.Vae.Output()],
        )

    @classmethod
    def execute(cls, quality: str = FAST) -> io.NodeOutput:
        """Load the three files; the preset is that of the `quality`."""
        vae = load_tiny_vae(DEMO_FOLDER / "vae.safetensors")
        order_weights(vae.decoder)
        encoder = load_text_encoder(DEMO_FOLDER / "text.safetensors")
        model = build_model(open_checkpoint(DEMO_FOLDER / "dit.safetensors"))
        family = replace(BY_KEY["demo"], preset=DEMO_QUALITIES[quality])
        attach_family(model, family, f"it is the demo, quality {quality}")
        mark_demo(model)
        return io.NodeOutput(model, DemoCLIP(encoder), DemoVAE(vae))
