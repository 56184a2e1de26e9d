"""A pack of one node for the tests: a CLIP vision model of Wan's width, small and random."""

from __future__ import annotations

import torch
from comfy.clip_vision import ClipVisionModel
from comfy_api.latest import ComfyExtension, io

WIDTH, LAYERS, SEED = 1280, 2, 11
CONFIG = {
    "hidden_size": WIDTH, "num_attention_heads": 16, "num_hidden_layers": LAYERS,
    "intermediate_size": 64, "projection_dim": 16, "hidden_act": "gelu", "image_size": 224,
    "patch_size": 14, "num_channels": 3, "layer_norm_eps": 1e-5, "model_type": "clip_vision_model",
}  # fmt: skip


class SmallVision(io.ComfyNode):
    """A CLIP_VISION that stands for clip_vision_h."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """The node's definition."""
        return io.Schema(node_id="SmallVision", inputs=[], outputs=[io.ClipVision.Output()])

    @classmethod
    def execute(cls) -> io.NodeOutput:
        """257 tokens of 1280 channels for a picture, as the file of 1.3 GB gives."""
        vision, random = ClipVisionModel(CONFIG), torch.Generator().manual_seed(SEED)
        weights = {
            name: 0.05 * torch.randn(value.shape, generator=random)
            for name, value in vision.get_sd().items()
        }
        vision.load_sd(weights)
        return io.NodeOutput(vision)


class VisionPack(ComfyExtension):
    """The node list."""

    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        """One node."""
        return [SmallVision]


async def comfy_entrypoint() -> VisionPack:
    """Hand the core the node list."""
    return VisionPack()
