"""An upscale model as the host's are, and frames after it."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from longtake.tests.support.node_bench import Bench


class Doubler:
    """An UPSCALE_MODEL as the host's are: repeats every pixel; fails above `max_pixels` a side."""

    scale = 2
    input_channels = 3

    def __init__(self, max_pixels: int = 4096) -> None:
        self.model = nn.Upsample(scale_factor=2)
        self.max_pixels = max_pixels
        self.largest: list[int] = []

    def __call__(self, pictures: Tensor) -> Tensor:
        self.largest.append(max(pictures.shape[2:]))
        if self.largest[-1] > self.max_pixels:
            raise torch.OutOfMemoryError("no room")
        return self.model(pictures)


def upscaled(bench: Bench, frames: Any, model: Any = None, **inputs: Any) -> Any:
    """The frames after Upscale (Stream), by default twice as large."""
    return bench.run("LongtakeUpscale", frames=frames, upscale_model=model or Doubler(), **inputs)[
        0
    ]
