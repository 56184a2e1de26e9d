"""Sound read in time order, one piece at a time.

with closing(SoundReader(sound)) as reader:
    first_second = reader.read(sound.rate)    # (channels, n) float32 in [-1, 1]
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

Samples = npt.NDArray[np.float32]  # (channels, n), in [-1, 1]
LAYOUTS = {1: "mono", 2: "stereo"}


class Sound(Protocol):
    """A sound with 1 or 2 channels, whose first sample is at 0 s."""

    @property
    def rate(self) -> int:
        """How many samples each channel has per second."""

    @property
    def channels(self) -> int:
        """The number of channels, 1 or 2."""

    @property
    def digest(self) -> str:
        """Equal for equal sounds."""

    def blocks(self) -> Blocks:
        """The whole sound from its start, in pieces of any length."""

    def later(self, seconds: float) -> Sound:
        """The sound from second `seconds` on; empty after its end."""


class Blocks(Iterator[Samples], Protocol):
    """Pieces of a sound in order; the reader must close them."""

    def close(self) -> None:
        """Close all files; closing twice is harmless."""


def waveform(sound: Sound) -> Tensor:
    """The whole sound (1, channels, n) float32 in [-1, 1], as the host's AUDIO has it."""
    silence: Samples = np.zeros((sound.channels, 0), np.float32)
    with closing(sound.blocks()) as blocks:
        return torch.from_numpy(np.concatenate([silence, *blocks], 1))[None]


class SoundReader:
    """Reads a sound piece by piece."""

    def __init__(self, sound: Sound) -> None:
        self._blocks = sound.blocks()
        self._rest: Samples = np.zeros((sound.channels, 0), np.float32)

    def read(self, count: int) -> Samples:
        """The next `count` samples (channels, n); fewer only at the end."""
        parts, length = [self._rest], self._rest.shape[1]
        while length < count and (block := next(self._blocks, None)) is not None:
            parts.append(block)
            length += block.shape[1]
        joined = np.concatenate(parts, 1)
        self._rest = joined[:, count:].copy()
        return joined[:, :count]

    def close(self) -> None:
        """Close the source of the sound."""
        self._blocks.close()
