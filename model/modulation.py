"""Timesteps as numbers that a model reads, and what they do to tokens."""

from __future__ import annotations

import torch
from torch import Tensor

from .config import FREQ_DIM


def modulate(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """Scale and shift tokens x in float32; the result has the dtype of x."""
    return (x.float() * (1 + scale) + shift).to(x.dtype)


def gate(x: Tensor, y: Tensor, share: Tensor) -> Tensor:
    """Add a share of y to tokens x in float32; the result has the dtype of x."""
    return (x.float() + y.float() * share).to(x.dtype)


def sinusoid(t: Tensor) -> Tensor:
    """Timesteps (b, f) to cosines then sines (b, f, FREQ_DIM), angles in float64 on the CPU."""
    half = FREQ_DIM // 2
    frequencies = 10_000.0 ** (-torch.arange(half, dtype=torch.float64) / half)
    angles = t.cpu().double().unsqueeze(-1) * frequencies
    return torch.cat([angles.cos(), angles.sin()], -1).float()
