"""What active latent frames attend to, laid out in memory: the history, then themselves."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from torch import Tensor


@dataclass(frozen=True, slots=True)
class Laid:
    """Rotated queries (b, n, s, d); rotated keys and values (b, n, t, d), of which the first `past`
    are the history's; and a bias (b, n, t) of each key's logits, None where all are 0.
    """

    q: Tensor
    keys: Tensor
    values: Tensor
    bias: Tensor | None
    past: int


class LayingAttention(Protocol):
    """Self-attention over a history that can also be laid out for another way of attending."""

    def __call__(self, layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Attend un-rotated q, k, v (b, s, n, d) of the active frames."""

    def laid(self, layer: int, q: Tensor, k: Tensor, v: Tensor) -> Laid:
        """The same laid out; valid until the next layer."""
