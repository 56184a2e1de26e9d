"""Longtake: streaming autoregressive video for ComfyUI, and the PyTorch engine under it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .nodes.extension import LongtakeExtension

WEB_DIRECTORY = "./web"


async def comfy_entrypoint() -> LongtakeExtension:
    """Hand ComfyUI the node list; imported lazily so that importing `longtake` touches nothing."""
    from .core.oldest_version import check_core

    check_core()
    from .nodes.extension import LongtakeExtension

    return LongtakeExtension()
