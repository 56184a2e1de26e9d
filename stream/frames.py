"""A chunk of pixels on its way from the decoder to the outputs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

    from ..samplers.rollout import Chunk


@dataclass(frozen=True, slots=True)
class FrameChunk:
    """The frames of one chunk of latents: `(f, 3, H, W)` float32 on the CPU, RGB in [0, 1]."""

    index: int
    first_frame: int  # counted in frames from the start of the rollout
    frames: Tensor
    latents: Chunk
