"""Control frames and reference pictures that were read, for a saved rollout file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from ...errors import BadInput
from ...model.vace.module import MASK_CHANNELS
from .video import ControlFrames, ControlVideo


@dataclass(frozen=True, slots=True)
class StoredControl:
    """What stays and what may change (f, 2 c, h, w), and masks (f or 1, 64, h, w) of f frames.

    `digests` are those of the frames that were read; so chunks keep their addresses.
    """

    latents: Tensor = field(repr=False, compare=False)
    masks: Tensor = field(repr=False, compare=False)
    digests: tuple[str, ...]

    def __post_init__(self) -> None:
        latents, masks = self.latents, self.masks
        fits = (
            latents.ndim == masks.ndim == 4
            and latents.shape[1] % 2 == 0
            and masks.shape[1:] == (MASK_CHANNELS, *latents.shape[2:])
            and len(masks) in (1, len(latents))
            and len(latents) == len(self.digests) > 0
        )
        if not fits:
            raise BadInput("The control frames of a saved shot do not go together.")

    @property
    def shape(self) -> tuple[int, ...]:
        """Latent channels, rows and columns."""
        return self.latents.shape[1] // 2, *self.latents.shape[2:]

    @property
    def sources(self) -> list[object]:
        """Nothing is to be claimed."""
        return []

    def __len__(self) -> int:
        return len(self.latents)

    def prepare(self, numbers: Sequence[int]) -> None:
        """Do nothing: no other model is involved."""

    def release(self) -> None:
        """Do nothing: nothing makes frames."""

    def digest(self, index: int) -> str:
        """The name that the frame had before it was stored."""
        return self.digests[index]

    def read(self, index: int) -> Tensor:
        """One control frame (channels, h, w)."""
        mask = self.masks[min(index, len(self.masks) - 1)]
        return torch.cat([self.latents[index], mask.to(self.latents)])


@dataclass(frozen=True, slots=True)
class StoredPicture:
    """A reference picture's normalised latents (c, h, w), and the name that it had."""

    latents: Tensor = field(repr=False, compare=False)
    digest: str

    def __post_init__(self) -> None:
        if self.latents.ndim != 3:
            raise BadInput("The reference pictures of a saved shot do not go together.")

    @property
    def shape(self) -> tuple[int, ...]:
        """Channels, rows and columns."""
        return tuple(self.latents.shape)

    @property
    def source(self) -> object:
        """Nothing is to be claimed."""
        return None

    def read(self) -> Tensor:
        """The latents, which are in memory already."""
        return self.latents


def stored(control: ControlVideo, length: int | None) -> ControlVideo:
    """The same control with its first `length` frames and its pictures read; None reads all."""
    pictures = (StoredPicture(part.read().cpu(), part.digest) for part in control.references)
    frames = None if control.frames is None else _read(control.frames, length)
    return replace(control, frames=frames, references=tuple(pictures))


def _read(frames: ControlFrames, length: int | None) -> StoredControl:
    count = len(frames) if length is None else min(length, len(frames))
    parts = [frames.read(index).cpu() for index in range(count)]
    both = 2 * frames.shape[0]
    masks = torch.stack([part[both:] for part in parts])
    alike = bool((masks == masks[:1]).all())
    names = tuple(frames.digest(index) for index in range(count))
    latents = torch.stack([part[:both] for part in parts])
    return StoredControl(latents, masks[:1].clone() if alike else masks, names)
