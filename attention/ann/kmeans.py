"""Buckets by online k-means on directions (mini-batch k-means, Sculley 2010).

Every new key moves its nearest centre: each centre is the running mean of the keys assigned to it.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from ..scatter import scatter_add_rows


class OnlineKMeans:
    """`count` buckets a head; the initial centres are evenly spaced keys of a layer's first ones.

    A key's code is the centre nearest to it when it was cached; later moves do not change it.
    """

    def __init__(self, count: int = 32) -> None:
        self.count = count
        self.centres: dict[int, Tensor] = {}  # (b, n, count, d) unit vectors
        self.weights: dict[int, Tensor] = {}  # (b, n, count) keys seen by each centre

    def learn(self, layer: int, keys: Tensor) -> None:
        """Move the centres towards keys (b, n, s, d)."""
        unit = F.normalize(keys.float(), dim=-1)
        if layer not in self.centres:
            at = torch.linspace(0, unit.shape[2] - 1, self.count, device=unit.device).long()
            self.centres[layer] = unit[:, :, at].clone()
            self.weights[layer] = unit.new_ones(*unit.shape[:2], self.count)
        assigned = (unit @ self.centres[layer].transpose(2, 3)).argmax(-1)  # (b, n, s)
        weights = self.weights[layer].clone()
        weights.scatter_add_(2, assigned, torch.ones_like(assigned, dtype=weights.dtype))
        sums = self.centres[layer] * self.weights[layer].unsqueeze(-1)
        self.centres[layer] = F.normalize(scatter_add_rows(sums, assigned, unit), dim=-1)
        self.weights[layer] = weights

    def assign(self, layer: int, vectors: Tensor) -> Tensor:
        """The nearest centre (b, n, s) int16 of vectors (b, n, s, d)."""
        return self._cosines(layer, vectors).argmax(-1).to(torch.int16)

    def probes(self, layer: int, vectors: Tensor, count: int) -> Tensor:
        """The `count` nearest centres (b, n, s, count)."""
        cosines = self._cosines(layer, vectors)
        return cosines.topk(min(count, self.count), dim=-1).indices.to(torch.int16)

    def state(self) -> dict[str, Tensor]:
        """Centres and weights of each layer, by name."""
        centres = {f"centres.{layer}": tensor for layer, tensor in self.centres.items()}
        return {**centres, **{f"weights.{layer}": t for layer, t in self.weights.items()}}

    def restore(self, learnt: Mapping[str, Tensor]) -> None:
        """Replace the state by what `state` returned."""
        self.centres, self.weights = (
            {int(name.split(".")[1]): t for name, t in learnt.items() if name.startswith(part)}
            for part in ("centres", "weights")
        )

    def _cosines(self, layer: int, vectors: Tensor) -> Tensor:
        unit = F.normalize(vectors.float(), dim=-1)
        return unit @ self.centres[layer].transpose(2, 3)
