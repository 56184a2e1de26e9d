"""What modules beside the transformer may read of the history that a pass reads."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from ..attention.projected import MatricesOf, ReadFrames
from ..model.delta import ReadState
from ..model.dit import SelfAttention


class PassReader(Protocol):
    """Opens further ways to the history of a pass, for its batch rows in order."""

    def runs(self) -> Sequence[tuple[int, ReadFrames]]:
        """How many batch rows in a row read what of the latent frames that are held."""

    def __call__(self, matrices: MatricesOf) -> SelfAttention:
        """Open an attention to the same latent frames, by matrices of their cameras."""

    def state(self) -> ReadState | None:
        """The state beside the history; None where no frame has left the window."""
