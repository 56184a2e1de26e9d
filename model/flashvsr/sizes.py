"""The sizes of FlashVSR's networks, and the networks without weights."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..config import DiTConfig
from ..dit import TextKV
from ..memory import META, shape_only
from .decoder import GuidedDecoder
from .passes import Networks
from .projector import Projector, ProjectorConfig


@dataclass(frozen=True, slots=True)
class Sizes:
    """The sizes of the three networks and of the prompt, and the dtype of their computations."""

    dit: DiTConfig
    projector: ProjectorConfig
    widths: tuple[int, int, int, int]
    dtype: torch.dtype
    prompt_tokens: int

    def with_layers(self, layers: int) -> Sizes:
        """These sizes with another number of `layers` of the transformer."""
        return replace(self, dit=replace(self.dit, num_layers=layers))

    def networks(self) -> Networks:
        """The networks without weights, in shapes alone."""
        with META:
            projector, decoder = Projector(self.projector), GuidedDecoder(self.widths)
        return Networks(
            shape_only(self.dit, self.dtype), projector.to(self.dtype), decoder.to(self.dtype),
            TextKV(tuple((self._text(), self._text()) for _ in range(self.dit.num_layers))),
            self.dtype,
        )  # fmt: skip

    def _text(self) -> Tensor:
        heads = self.dit.num_heads
        shape = 1, 1, self.prompt_tokens, heads, self.dit.dim // heads
        return torch.empty(*shape, dtype=self.dtype, device=META)
