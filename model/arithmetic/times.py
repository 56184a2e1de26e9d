"""Timesteps as what a model reads: a sinusoid, then the model's own layers."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ...machine.uploads import upload
from ..config import FREQ_DIM

MOST_KEPT = 16
"""Sets of timesteps that are remembered. Shots of few steps, where it gains most, have fewer."""


def sinusoid(t: Tensor) -> Tensor:
    """Timesteps (b, f) to cosines then sines (b, f, FREQ_DIM), angles in float64 on the CPU."""
    half = FREQ_DIM // 2
    frequencies = 10_000.0 ** (-torch.arange(half, dtype=torch.float64) / half)
    angles = t.cpu().double().unsqueeze(-1) * frequencies
    return torch.cat([angles.cos(), angles.sin()], -1).float()


def embed_times(tree: Any, t: Tensor, like: Tensor) -> Tensor:
    """The time embedding (b, f, c) of timesteps t (b, f) on the CPU, for latents `like` these."""
    embedded: Tensor = tree.time_embedding(upload(sinusoid(t).to(like.dtype), like.device))
    return embedded


class KeptTimes:
    """Time embeddings, each computed once: chunk after chunk has the same timesteps.

    For one module tree, and only as long as prompts that its weights have read are kept, too. The
    results are shared: nobody may change them in place. A rehearsal keeps none: they take some KB,
    and a short one has other steps than the shot.
    """

    def __init__(self) -> None:
        self._kept: dict[tuple[object, ...], Tensor] = {}

    def __call__(self, tree: Any, t: Tensor, like: Tensor) -> Tensor:
        """The result of `embed_times`."""
        key = (like.dtype, like.device, t.shape, *t.flatten().tolist())
        known = self._kept.get(key)
        if known is None:
            known = embed_times(tree, t, like)
            if len(self._kept) < MOST_KEPT and not like.is_meta:
                self._kept[key] = known
        return known

    def forget(self) -> None:
        """Compute all again: the weights may have changed."""
        self._kept.clear()
