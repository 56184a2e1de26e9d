"""What timesteps do to tokens: shifts, scales and shares of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ...attention.rope import Turn, rotate_plain


def modulate(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """Scale and shift tokens x in float32; the result has the dtype of x."""
    return torch.addcmul(shift, x.float(), 1 + scale).to(x.dtype)


def gate(x: Tensor, y: Tensor, share: Tensor) -> Tensor:
    """Add a share of y to tokens x in float32; the result has the dtype of x."""
    return torch.addcmul(x.float(), y.float(), share).to(x.dtype)


@dataclass(frozen=True, slots=True)
class Arithmetic:
    """What a block computes between its layers, which a compiler may have turned into other code.

    Tokens are (b, f, s, c), shifts, scales and shares (b, f, 1, c) float32. `turn` rotates queries
    and keys.
    """

    modulate: Callable[[Tensor, Tensor, Tensor], Tensor] = modulate
    gate: Callable[[Tensor, Tensor, Tensor], Tensor] = gate
    turn: Turn = rotate_plain


PLAIN_ARITHMETIC = Arithmetic()
