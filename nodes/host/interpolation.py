"""The host's model for pictures in between (RIFE, FILM), used through the host's own node."""

from __future__ import annotations

import importlib
from typing import Any

from torch import Tensor

from ...errors import BadInput

NODE = ("comfy_extras.nodes_frame_interpolation", "FrameInterpolate")


def interpolator() -> Any:
    """The host's node; BadInput where the host is too old to have one."""
    module, name = NODE
    try:
        return getattr(importlib.import_module(module), name)
    except ModuleNotFoundError as error:
        raise BadInput(
            "This ComfyUI has no frame interpolation; update it, or run the workflow there."
        ) from error


def interpolate(node: Any, model: Any, pictures: Tensor, multiplier: int) -> Tensor:
    """Pictures (n, 3, H, W), n >= 2, with `multiplier` - 1 between each two; float32 on the CPU.

    `node` is what `interpolator` gives, `model` an INTERP_MODEL.
    """
    (images,) = node.execute(model, pictures.movedim(1, -1), multiplier).args
    return images.movedim(-1, 1).float().cpu()
