"""Levels and a smooth velocity for tests of solvers."""

from __future__ import annotations

import torch
from torch import Tensor

from longtake.tests.support.tiny_model import randn

SHAPE = (3, 4, 2, 2)


def levels(*values: float) -> Tensor:
    """One level per latent frame, (f, 1, 1, 1)."""
    return torch.tensor(values).view(-1, 1, 1, 1)


def velocity(x: Tensor, level: Tensor | float) -> Tensor:
    """Some smooth prediction."""
    weights = randn(4, 4, seed=9)
    return torch.einsum("fchw,cd->fdhw", x, weights) * (1 + level) + torch.sin(x)
