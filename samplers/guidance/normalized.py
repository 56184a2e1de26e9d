"""Normalized attention guidance (NAG): a negative prompt for the cost of attention to a prompt.

Source: Chen et al., arXiv 2505.21179, section 3. CFG evaluates the model twice. NAG evaluates the
model once, and pushes in every layer what attention to the prompt gives away from what attention to
the negative prompt would give. So distilled models, which were trained without CFG, obey a negative
prompt too.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ...errors import BadInput


@dataclass(frozen=True, slots=True)
class NormalizedAttention:
    """How far the attention to the prompt is pushed from that to the negative prompt.

    `scale` is the strength before the bound, 1 is off. `tau` bounds the L1 norm of each token, as a
    multiple of the norm that it had. `alpha` (0..1) is the share of the result in the output.
    """

    scale: float = 11.0
    tau: float = 2.5
    alpha: float = 0.25

    def __post_init__(self) -> None:
        if not 0 <= self.scale < math.inf:
            raise BadInput(f"The scale of NAG is a number from 0 on; got {self.scale}.")
        if not 1 <= self.tau < math.inf:
            raise BadInput(f"tau of NAG is a number from 1 on; got {self.tau}.")
        if not 0 <= self.alpha <= 1:
            raise BadInput(f"alpha of NAG is from 0 to 1; got {self.alpha}.")

    def __str__(self) -> str:
        return f"NAG {self.scale:g} from the negative prompt"

    def push(self, positive: Tensor, negative: Tensor, strength: Tensor) -> Tensor:
        """What attention to the prompt gives, pushed from that to the negative prompt.

        Both are (b, f, s, n, d). `strength` (b, f, 1, 1, 1) multiplies how far `scale` is from 1;
        0 gives `positive`, bit for bit.
        """
        pushed = positive + strength * (self.scale - 1) * (positive - negative)
        bound = self.tau * _size(positive) / _size(pushed).clamp_min(torch.finfo().tiny)
        pushed *= bound.clamp_max(1).to(pushed.dtype)
        return positive + self.alpha * (pushed - positive)


@dataclass(frozen=True, slots=True)
class Push:
    """NAG in one pass: its settings, and the strength for each latent frame of the pass."""

    attention: NormalizedAttention
    strengths: tuple[float, ...]


def _size(x: Tensor) -> Tensor:
    """The L1 norm of each token over its heads (b, f, s, 1, 1), in float32."""
    return x.abs().sum((-2, -1), keepdim=True, dtype=torch.float32)
