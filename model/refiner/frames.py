"""The second stage over a stream of frames, whatever its chunks are.

Frames pass one at a time, so that chunks of any length give the same bits. To go on in mid-video,
begin `config.blocks` frames earlier: the network looks no further back.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ..vae.tiny import Memory
from .network import FACTOR, RGB, Refiner

Noise = Callable[[int], Tensor]
"""A frame's number to normal noise (3, h, w) on the network's device."""


@dataclass(frozen=True, slots=True)
class NoiseAugmentation:
    """Noise of standard deviation `level`, 0 to MAX_LEVEL, for the small frames."""

    level: float
    noise: Noise


@torch.no_grad()
def refine(
    refiner: Refiner,
    frames: Tensor,
    first_frame: int,
    memory: Memory,
    augmentation: NoiseAugmentation | None = None,
) -> tuple[Tensor, Memory]:
    """Frames (n, 3, h, w) to (n, 3, 4h, 4w), all in [0, 1], and the memory after the last.

    `first_frame` is the number of the first one in its video; `memory` is that of the frame before.
    """
    level = frames.new_tensor([augmentation.level if augmentation else 0.0])
    rows, columns = frames.shape[2:]
    larger = frames.new_empty(len(frames), RGB, FACTOR * rows, FACTOR * columns)
    for number, frame in enumerate(frames):
        seen = frame
        if augmentation is not None:
            seen = frame + augmentation.level * augmentation.noise(first_frame + number)
        refined, memory = refiner(seen[None, None], level, memory)
        larger[number] = refined[0, 0].clamp_(0, 1)
    return larger, memory
