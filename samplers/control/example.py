"""A control video that has shapes and no content, for rehearsals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ...model.vace.module import control_channels
from .strength import ControlStrength
from .video import ControlVideo

ENDLESS = 10**9  # latent frames


@dataclass(frozen=True, slots=True)
class ExampleFrames:
    """Control frames of a shape, without end."""

    shape: tuple[int, ...]

    @property
    def sources(self) -> list[object]:
        """Nothing is to be claimed."""
        return []

    def __len__(self) -> int:
        return ENDLESS

    def prepare(self, numbers: Sequence[int]) -> None:
        """Do nothing: no other model is involved."""

    def release(self) -> None:
        """Do nothing: nothing makes frames."""

    def digest(self, index: int) -> str:
        """One name for all frames."""
        return "example"

    def read(self, index: int) -> Tensor:
        """A control frame (channels, h, w) that has only a shape."""
        channels, *size = self.shape
        return torch.empty(control_channels(channels), *size, device="meta")


def example_control(control: ControlVideo) -> ControlVideo:
    """Control frames of the size of `control` on every latent frame, at the greatest strength."""
    return ControlVideo(ExampleFrames(control.shape), strength=ControlStrength())
