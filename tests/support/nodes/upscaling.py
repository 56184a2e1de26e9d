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
    lack: Exception = torch.OutOfMemoryError("no room")

    def __init__(self, max_pixels: int = 4096) -> None:
        self.model: nn.Module = nn.Upsample(scale_factor=2)
        self.max_pixels = max_pixels
        self.largest: list[int] = []

    def __call__(self, pictures: Tensor) -> Tensor:
        self.largest.append(max(pictures.shape[2:]))
        if self.largest[-1] > self.max_pixels:
            raise self.lack
        return self.model(pictures)


class Tinter(Doubler):
    """A Doubler with weights: it makes every picture brighter by `weight`."""

    def __init__(self, weight: float = 1.25) -> None:
        super().__init__()
        tint = nn.Conv2d(3, 3, 1, bias=False)
        tint.weight.data = weight * torch.eye(3)[:, :, None, None]
        self.model = nn.Sequential(self.model, tint.requires_grad_(False))


def upscaled(bench: Bench, frames: Any, model: Any = None, **inputs: Any) -> Any:
    """The frames after Upscale (Stream), by default twice as large."""
    return bench.run("LongtakeUpscale", frames=frames, upscale_model=model or Doubler(), **inputs)[
        0
    ]
