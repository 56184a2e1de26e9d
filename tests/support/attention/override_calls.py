"""Calls of ComfyUI's attention override with small seeded tensors."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from longtake.tests.support.tiny_model import randn

HEADS, WIDTH = 2, 24


def dense(q: Tensor, k: Tensor, v: Tensor, heads: int, **_: Any) -> Tensor:
    """The host's attention, (b, s, n d)."""
    q, k, v = (x.unflatten(-1, (heads, -1)).transpose(1, 2) for x in (q, k, v))
    return F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)


def qkv(queries: int, keys: int) -> tuple[Tensor, Tensor, Tensor]:
    """Seeded (1, s, n d)."""
    return tuple(randn(1, n, WIDTH, seed=i) for i, n in enumerate((queries, keys, keys)))  # type: ignore[return-value]


def options(level: float, layer: int = 3) -> dict[str, Any]:
    """What the host passes along in a step of a run of three."""
    of_run = torch.tensor([1.0, 0.8, 0.5, 0.0])
    return {"sigmas": torch.tensor([level]), "sample_sigmas": of_run, "block_index": layer}
