"""Load Demo Model: the small model that ships with Longtake."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from comfy_api.latest import io

from ...model.checkpoint import load_text_encoder, load_tiny_vae, open_checkpoint
from ...model.families.family import Family
from ...model.families.table import BY_KEY, DEMO_KEY, FAST_DEMO_KEY
from ...model.preset import DEMO_FOLDER, FAST_NAME, RANGES_NAME
from ...model.vae.int8.ranges import load_ranges
from ...model.vae.memory_order import order_weights
from .. import categories
from ..schema import build
from .demo_objects import DemoCLIP, DemoVAE
from .load_model import build_model
from .model_facts import attach_family, mark_demo

FAST, FULL = "fast", "full"


@dataclass(frozen=True, slots=True)
class Quality:
    """The transformer's file in the demo's folder, and the family that it is."""

    file: Path
    family: Family


QUALITIES: Mapping[str, Quality] = {
    FAST: Quality(Path(FAST_NAME, "dit.safetensors"), BY_KEY[FAST_DEMO_KEY]),
    FULL: Quality(Path("dit.safetensors"), BY_KEY[DEMO_KEY]),
}


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
                    options=[*QUALITIES],
                    default=FAST,
                    optional=True,
                    tooltip="`fast`: a distilled model of 2 steps, without guidance. `full`: the "
                    "model that it learned from, with 8 steps and nearly 3 times as many "
                    "passes; guidance and noisy history work there.",
                )
            ],
            outputs=[io.Model.Output(), io.Clip.Output(), io.Vae.Output()],
        )

    @classmethod
    def execute(cls, quality: str = FAST) -> io.NodeOutput:
        """Load the three files; `quality` says which transformer."""
        chosen = QUALITIES[quality]
        vae = load_tiny_vae(DEMO_FOLDER / "vae.safetensors")
        order_weights(vae.decoder)
        ranges = load_ranges(DEMO_FOLDER / RANGES_NAME, vae)
        encoder = load_text_encoder(DEMO_FOLDER / "text.safetensors")
        model = build_model(open_checkpoint(DEMO_FOLDER / chosen.file))
        attach_family(model, chosen.family, f"it is the demo, quality {quality}")
        mark_demo(model)
        return io.NodeOutput(model, DemoCLIP(encoder), DemoVAE(vae, ranges=ranges))
