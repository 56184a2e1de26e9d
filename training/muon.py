"""Muon: momentum whose matrix updates are orthogonalised (Keller Jordan, 2024).

On the demo's small networks Muon reaches in a minute what AdamW reaches in ten. Updates of equal
shape are batched. Convolution kernels are flattened to matrices. Vectors stay with AdamW.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

import torch
from torch import Tensor, nn


class Muon(torch.optim.Optimizer):
    """Nesterov momentum, five Newton-Schulz steps, decoupled weight decay."""

    def __init__(
        self,
        params: Iterable[nn.Parameter],
        lr: float,
        *,
        momentum: float = 0.95,
        decay: float = 0.01,
    ) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "decay": decay})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]  # no closures
        """Update every parameter that has a gradient, in place."""
        for group in self.param_groups:
            by_shape: dict[tuple[int, int], list[nn.Parameter]] = defaultdict(list)
            for p in group["params"]:
                if p.grad is not None:
                    by_shape[p.shape[0], p[0].numel()].append(p)
            for (rows, columns), members in by_shape.items():
                momenta = [self._nesterov(p, group["momentum"]) for p in members]
                updates = orthogonalise(torch.stack(momenta))
                scale = max(1.0, rows / columns) ** 0.5
                for p, update in zip(members, updates, strict=True):
                    p.mul_(1 - group["lr"] * group["decay"])
                    p.add_(update.view_as(p), alpha=-group["lr"] * scale)

    def _nesterov(self, p: nn.Parameter, momentum: float) -> Tensor:
        """Advance the momentum of `p`; return the look-ahead gradient (rows, columns)."""
        assert p.grad is not None
        state = self.state[p]
        if "momentum" not in state:
            state["momentum"] = torch.zeros_like(p)
        state["momentum"].mul_(momentum).add_(p.grad)
        ahead: Tensor = p.grad.add(state["momentum"], alpha=momentum)
        return ahead.reshape(len(p), -1)


def orthogonalise(g: Tensor, steps: int = 5) -> Tensor:
    """Return roughly U V^T of each matrix U S V^T in g (k, rows, columns).

    Uses the quintic Newton-Schulz iteration: singular values end between about 0.7 and 1.2.
    """
    a, b, c = 3.4445, -4.7750, 2.0315
    flip = g.shape[-2] > g.shape[-1]
    x: Tensor = g.mT if flip else g
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(steps):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.mT if flip else x
