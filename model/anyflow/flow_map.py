"""A flow map: a model that is told where a step ends as well, and predicts the mean velocity there.

AnyFlow (arXiv 2605.13724): u(x_t, t, r) leads from level t to any cleaner level r in one step, x_r
= x_t - (t - r) u. So the same weights make 1, 2, 4 or 32 steps. A second embedding reads r; a fixed
share of its output takes the place of as much of the time embedding (`gate_value` 0.25 and
`deltatime_type` r of all released weights, NVlabs/AnyFlow `options/test/anyflow`; diffusers
`transformer_anyflow.py`). With r = t the model predicts the velocity at t, as others do.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from ...machine.uploads import upload
from ..arithmetic.times import sinusoid
from ..config import FREQ_DIM
from ..hooks import Hooks

TARGET_SHARE = 0.25
"""The share of the time embedding that comes from the target level."""

Linear = Callable[[int, int], nn.Module]
"""Makes a linear layer from numbers of inputs and outputs."""


def add_flow_map_layers(tree: Any, dim: int, linear: Linear) -> None:
    """Add the embedding of target levels, built as that of timesteps, to a module tree."""
    tree.delta_embedding = nn.Sequential(linear(FREQ_DIM, dim), nn.SiLU(), linear(dim, dim))


def target_hooks(tree: Any, targets: Tensor, dtype: torch.dtype, device: torch.device) -> Hooks:
    """Tell a pass on `device` the timesteps `targets` (b, f), on the CPU, where its step ends."""
    target = tree.delta_embedding(upload(sinusoid(targets).to(dtype), device))

    def mix(embedding: Tensor) -> Tensor:
        mixed: Tensor = (1 - TARGET_SHARE) * embedding + TARGET_SHARE * target
        return mixed

    return Hooks(time=(mix,))
