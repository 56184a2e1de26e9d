"""A chunk of pixels on its way from the decoder to the outputs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch

if TYPE_CHECKING:
    from torch import Tensor

    from ..samplers.rollout import Chunk

Pictures = npt.NDArray[np.uint8]  # (n, H, W, 3), RGB


@dataclass(frozen=True, slots=True)
class FrameChunk:
    """The frames of one chunk of latents: `(f, 3, H, W)` float32 on the CPU, RGB in [0, 1]."""

    index: int
    first_frame: int  # counted in frames from the start of the rollout
    frames: Tensor
    latents: Chunk | None = None  # none of a video file's

    @property
    def prompt(self) -> str:
        """What the pictures were made by, where they were made by a prompt."""
        return "" if self.latents is None else self.latents.prompt


def to_pictures(frames: Tensor) -> Pictures:
    """(n, 3, H, W) in [0, 1] to 8 bits, (n, H, W, 3); on any thread."""
    with torch.inference_mode():  # a thread of its own is not in the host's
        scaled = frames.float().clamp(0, 1).mul(255).round().to(torch.uint8)
        pictures: Pictures = scaled.permute(0, 2, 3, 1).contiguous().cpu().numpy()  # (n, H, W, 3)
    return pictures
