"""What timesteps do to tokens: shifts, scales and shares of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ...attention.rope import Turn, rotate_plain


def modulate(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """Scale and shift tokens x in float32; the result has the dtype of x."""
    return _multiply_add(shift, x, 1 + scale, x)


def gate(x: Tensor, y: Tensor, share: Tensor) -> Tensor:
    """Add a share of y to tokens x in float32; the result has the dtype of x."""
    return _multiply_add(x, y, share, x)


def modulate_by_casts(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """The same bits as `modulate`: more kernels as it stands, but a compiler makes one of them."""
    return torch.addcmul(shift, x.float(), 1 + scale).to(x.dtype)


def gate_by_casts(x: Tensor, y: Tensor, share: Tensor) -> Tensor:
    """The same bits as `gate`, for a compiler."""
    return torch.addcmul(x.float(), y.float(), share).to(x.dtype)


def _multiply_add(term: Tensor, x: Tensor, factor: Tensor, like: Tensor) -> Tensor:
    """term + x * factor in the widest of their dtypes, rounded to that of `like`.

    A GPU does so in one kernel: it casts what it reads and what it writes.
    """
    if term.dtype is x.dtype is factor.dtype is like.dtype:
        return torch.addcmul(term, x, factor)
    if torch.is_grad_enabled():  # an output that is given has no gradient
        return torch.addcmul(term, x, factor).to(like.dtype)
    return torch.addcmul(term, x, factor, out=torch.empty_like(like))


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
