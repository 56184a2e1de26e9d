"""Frames that can be told apart by their pixels, also after JPEG and video encoding.

Frame i: the upper two thirds are one of 27 colours (`colour(i)`, channels 40, 128 or 216), the
lower third is a barcode of 16 cells side by side, white for 1 and black for 0, the most significant
bit of i first. In a browser: read a pixel in the middle of each cell, 1 where it is above 128.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

BITS = 16
LEVELS = (40, 128, 216)


def colour(index: int) -> tuple[int, int, int]:
    """The colour of frame `index`; neighbours differ."""
    return LEVELS[index % 3], LEVELS[index // 3 % 3], LEVELS[index // 9 % 3]


def numbered_frames(
    first: int, count: int, width: int, height: int, *, grain: float = 0.0
) -> Tensor:
    """Frames first to first + count, (count, 3, height, width) in [0, 1]; `grain`: the standard
    deviation, in levels of 255, of noise on the colours, which costs bytes.
    """
    frames = np.empty((count, height, width, 3), np.uint8)
    split = height * 2 // 3
    noise = np.random.Generator(np.random.Philox(first)).normal(0, grain, (split, width, 1))
    bits = BITS - 1 - np.arange(width) * BITS // width
    for place, index in enumerate(range(first, first + count)):
        grained = np.array(colour(index)) + np.roll(noise, 3 * place, axis=1)
        frames[place, :split] = np.clip(grained, 0, 255)
        frames[place, split:] = 255 * (index >> bits & 1)[:, None]
    return torch.from_numpy(frames).permute(0, 3, 1, 2).float().div_(255)


def number_in(picture: npt.NDArray[np.uint8]) -> int:
    """The index drawn into a picture (H, W, 3), of any size."""
    height, width = picture.shape[:2]
    row = picture[height * 5 // 6, :, 1]
    cells = [row[int((cell + 0.5) * width / BITS)] > 128 for cell in range(BITS)]
    return sum(int(on) << (BITS - 1 - cell) for cell, on in enumerate(cells))
