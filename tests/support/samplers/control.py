"""Control frames and reference pictures in memory, for tests."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor

from longtake.model.config import DiTConfig
from longtake.model.vace.module import VaceModule, control_channels
from longtake.samplers.conditioning.digest import embedding_digest
from longtake.samplers.denoiser import Denoiser, local_denoiser
from longtake.tests.support.tiny_model import TINY, randn, random_dit, randomise


@dataclass
class ControlTensors:
    """Control frames (f, channels, h, w)."""

    tensor: Tensor
    reads: int = 0

    @property
    def shape(self) -> tuple[int, ...]:
        """Latent channels, rows and columns."""
        return TINY.out_channels, *self.tensor.shape[2:]

    @property
    def sources(self) -> list[object]:
        """Nothing is to be claimed."""
        return []

    def __len__(self) -> int:
        return len(self.tensor)

    def prepare(self, numbers: Sequence[int]) -> None:
        """Nothing is to be made."""

    def release(self) -> None:
        """Nothing is to be let go."""

    def digest(self, index: int) -> str:
        """A hash of the frame's values."""
        return embedding_digest(self.tensor[index])

    def read(self, index: int) -> Tensor:
        """One frame; reads are counted."""
        self.reads += 1
        return self.tensor[index]


@dataclass
class Picture:
    """A reference picture's latents (c, h, w)."""

    latents: Tensor

    @property
    def shape(self) -> tuple[int, ...]:
        """Channels, rows and columns."""
        return tuple(self.latents.shape)

    @property
    def source(self) -> object:
        """One source for all pictures."""
        return "pictures"

    @property
    def digest(self) -> str:
        """A hash of the values."""
        return embedding_digest(self.latents)

    def read(self) -> Tensor:
        """The values themselves."""
        return self.latents


def random_control(frames: int, seed: int = 4, size: tuple[int, int] = (4, 6)) -> ControlTensors:
    """Random control frames for a small shot."""
    return ControlTensors(randn(frames, control_channels(TINY.out_channels), *size, seed=seed))


def controlled_model(config: DiTConfig = TINY, blocks: int = 1, **changes: Any) -> Denoiser:
    """A random tiny model with a random module."""
    config = replace(config, control_blocks=blocks)
    module = VaceModule(config)
    randomise(module, 11)
    engine = local_denoiser(random_dit(replace(config, control_blocks=0)), config)
    return replace(engine, control=module.eval().requires_grad_(False), **changes)
