"""The value that one code of a channel stands for.

Behind a ReLU no value is negative, and a positive factor passes a ReLU. So units move into the
weights around it: those that read a channel multiply its unit, those that make it divide by it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

HIGHEST_CODE = 255
MIDDLE_CODE = 128  # stands for 0 where values have both signs
SHARE = 0.7  # of the evening out that weights do; .65 to .9 are alike for the demo's pictures
LEAST = 1e-4  # size of a channel's values, or of its weights; some channels are always zero


@dataclass(frozen=True, slots=True)
class Units:
    """The value of one code of each channel (c,), and the code `zero` that stands for 0."""

    values: Tensor
    zero: int = 0


def units(balance: Tensor, largest: Tensor, *, signed: bool = False) -> Units:
    """The smallest units in proportion to `balance` (c,) whose codes hold the `largest` values
    (c,); `signed` where values have both signs.
    """
    zero = MIDDLE_CODE if signed else 0
    step = (largest.clamp_min(LEAST) / balance).amax() / (HIGHEST_CODE - zero)
    return Units(balance * step, zero)


def balance(largest: Tensor, readers: Iterable[Tensor]) -> Tensor:
    """Proportions (c,) of units that even out a channel's `largest` value and the weights (o, c, h,
    w) that read it.

    This is SmoothQuant (Xiao et al., arXiv 2211.10438, Eq. 4), with SHARE as alpha, between layers
    as in Nagel et al. (arXiv 1906.04721).
    """
    weights = torch.stack([reader.abs().amax((0, 2, 3)) for reader in readers]).amax(0)
    return largest.clamp_min(LEAST) ** SHARE / weights.clamp_min(LEAST) ** (1 - SHARE)


def in_units(conv: nn.Conv2d, reads: Tensor, gives: Units | None) -> tuple[Tensor, Tensor]:
    """Weight and bias of a convolution whose inputs are in the units `reads` (c,), and whose
    outputs in those it `gives`, or None as they are.
    """
    assert conv.bias is not None
    by = torch.ones(len(conv.weight)) if gives is None else gives.values
    return conv.weight * reads[:, None, None] / by[:, None, None, None], conv.bias / by
