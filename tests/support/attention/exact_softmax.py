"""Softmax attention in float64, and tensors in the order in which a pass has them."""

from __future__ import annotations

import torch
from torch import Tensor

from ..tiny_model import randn


def exact(q: Tensor, k: Tensor, v: Tensor, scale: float) -> Tensor:
    """Attention of q (b, n, s, d) over k, v (b, n, t, d), in float64."""
    logits = torch.einsum("bnsd,bntd->bnst", q.double(), k.double()) * scale
    return torch.einsum("bnst,bntd->bnsd", logits.softmax(-1), v.double())


def tensors(queries: int, keys: int) -> tuple[Tensor, Tensor, Tensor]:
    """q, k, v (2, 3, ., 16), as a pass has them in memory: token, head, channel."""
    q, k, v = (randn(2, s, 3, 16, seed=i) for i, s in enumerate((queries, keys, keys)))
    return q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2)


class Recorded:
    """An attention that notes its queries; it takes the place of one."""

    def __init__(self, attend: object) -> None:
        self.attend, self.queries = attend, list[Tensor]()

    def __call__(self, q: Tensor, *rest: object) -> Tensor:
        self.queries.append(q)
        return self.attend(q, *rest)  # type: ignore[operator, no-any-return]
