"""A history that the model made itself, so that it learns to mend its errors (two passes).

A rollout reads what it made, never the truth. So in some batches the clean copies of denoised
frames are replaced by what the model makes of their noisy copies in one step; later chunks must
still come out true. (Self Forcing, arXiv 2506.08009, in the cheapest form: one step, no gradient.)
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from .batches import Batch

SHARE = 0.25
"""The share of batches with such a history."""


@torch.no_grad()
def with_own_history(predict: Callable[[Batch], Tensor], batch: Batch) -> Batch:
    """The batch with clean copies made by `predict`, which gives the velocity of noisy copies."""
    context = batch.x.shape[1] - len(batch.copied)
    level = batch.levels[:, context:, None, None, None]
    clean = batch.x[:, context:] - level * predict(batch)
    x, levels = batch.x.clone(), batch.levels.clone()
    x[:, batch.copied] = clean
    levels[:, batch.copied] = 0.0
    return replace(batch, x=x, levels=levels)
