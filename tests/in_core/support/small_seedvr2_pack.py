"""A pack without nodes for the tests: the core builds a SeedVR2 as small as its file says.

The core takes SeedVR2's sizes from tables of its own, whatever a file's tensors are. So a small
random file would not load, and the published ones have gigabytes. Number and kinds of layers stay.
"""

from __future__ import annotations

from typing import Any

import comfy.ldm.seedvr.vae
import comfy.model_detection
from comfy_api.latest import ComfyExtension, io

HEAD_DIM = 128
WIDTHS = (32, 32, 32, 32)
WIDTH = "vid_in.proj.weight"

_detect = comfy.model_detection.detect_unet_config


def detect_small(state_dict: Any, key_prefix: str, *more: Any, **named: Any) -> Any:
    """The core's own finding, in the width of the file."""
    config = _detect(state_dict, key_prefix, *more, **named)
    if config is not None and config.get("image_model") == "seedvr2":
        width = state_dict[f"{key_prefix}{WIDTH}"].shape[0]
        config |= {"vid_dim": width, "heads": width // HEAD_DIM}
    return config


class SmallSeedVR2Pack(ComfyExtension):
    """No node."""

    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        """Return no node at all."""
        return []


async def comfy_entrypoint() -> SmallSeedVR2Pack:
    """Put the smaller sizes in place when the pack loads."""
    comfy.model_detection.detect_unet_config = detect_small
    comfy.ldm.seedvr.vae.BYTEDANCE_BLOCK_OUT_CHANNELS = WIDTHS
    return SmallSeedVR2Pack()
