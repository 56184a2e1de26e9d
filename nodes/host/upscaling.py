"""Memory and tiles of the host's UPSCALE_MODEL."""

from __future__ import annotations

from typing import Any

import comfy.utils
import torch
from torch import Tensor

from .memory import manage

UPSCALE_FACTOR = 384  # activations per byte of a picture, the host's own estimate
TILE_OVERLAP = 32  # pixels, as in the host's own upscaling node


def upscaler_patcher(model: Any) -> Any:
    """The patcher of an UPSCALE_MODEL; older cores have none, so one is made."""
    return getattr(model, "patcher", None) or manage(model.model)


def upscaling_bytes(model: Any, width: int, height: int) -> int:
    """The host's estimate of the memory for upscaling one tile, sides in pixels."""
    return int(width * height * 3 * torch.float32.itemsize * max(model.scale, 1) * UPSCALE_FACTOR)


def upscale_tiled(model: Any, pictures: Tensor, tile: int) -> Tensor:
    """Pictures (n, 3, H, W) enlarged by `model.scale`, in blended tiles; on the CPU."""
    return comfy.utils.tiled_scale(
        pictures,
        lambda part: model(part.float()),
        tile_x=tile,
        tile_y=tile,
        overlap=TILE_OVERLAP,
        upscale_amount=model.scale,
        output_device="cpu",
    )
