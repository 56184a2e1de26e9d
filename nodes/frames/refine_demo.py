"""Refine Demo (Stream): the demo's second stage, applied while the frames come."""

from __future__ import annotations

from comfy_api.latest import io
from torch import Tensor

from ...model.preset import DEMO_FOLDER
from ...model.refiner.file import load_refiner
from ...model.refiner.network import FACTOR, MAX_LEVEL
from ...model.vae.memory_order import order_weights
from .. import categories, sockets
from ..planning.announce import announce
from ..schema import build
from .pictures import frames_input, to_frames
from .refined_frames import RefinedFrames
from .source import FrameSource


class RefineDemo(io.ComfyNode):
    """FRAMES of the demo to FRAMES four times as wide and high."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return build(
            io.Schema,
            node_id="LongtakeRefineDemo",
            display_name="Refine Demo (Stream)",
            category=categories.FRAMES,
            description="Makes the demo's frames four times as wide and high while they come, with "
            "a small network that knows the demo's world. For other videos use "
            "Super-Resolution (Stream) or Upscale (Stream).",
            search_aliases=["cascade", "super resolution", "second stage", "enlarge", "hires"],
            inputs=[
                frames_input("frames", "From VAE Decode (Stream) of the demo."),
                io.Float.Input(
                    "noise_level",
                    default=0.0,
                    min=0.0,
                    max=MAX_LEVEL,
                    step=0.01,
                    tooltip="Noise on the small frames before they are refined (standard deviation "
                    f"of pictures from 0 to 1; 0 to {MAX_LEVEL:g}). It hides errors of the small "
                    "frames, and detail with them.",
                    advanced=True,
                ),
            ],
            outputs=[sockets.Frames.Output(display_name="frames")],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def execute(cls, frames: Tensor | FrameSource, noise_level: float) -> io.NodeOutput:
        """Wrap the frames; each chunk is refined when an output asks for it."""
        source = to_frames(frames)
        refiner = load_refiner(DEMO_FOLDER / "refiner.safetensors")
        order_weights(refiner)
        larger = RefinedFrames(source, refiner, noise_level, cls.hidden.unique_id)
        announce(
            cls.hidden.unique_id,
            larger.plan,
            from_model=f"{source.width}x{source.height} becomes {larger.width}x{larger.height}, "
            f"{FACTOR} times each side.",
            plan_only=source.plan_only,
        )
        return io.NodeOutput(larger)
