"""Buckets by random projection: the signs of a few random directions (Charikar 2002), multi-probe.

Keys share a strong mean, which a softmax ignores since it shifts all logits of a query alike. So
the mean is subtracted first: that of the first keys of a layer, so that a code never changes.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor


class RandomProjection:
    """2^bits buckets a head; `probes` flips the bits with the smallest margins.

    The probing is multi-probe LSH (Lv et al. 2007).
    """

    def __init__(self, heads: int, head_dim: int, bits: int = 6, seed: int = 0) -> None:
        generator = torch.Generator().manual_seed(seed)
        self.bits, self.count = bits, 2**bits
        self.planes = torch.randn(heads, head_dim, bits, generator=generator)
        self.means: dict[int, Tensor] = {}
        self._device_planes: dict[torch.device, Tensor] = {}

    def learn(self, layer: int, keys: Tensor) -> None:
        """Remember the mean of a layer's first keys (b, n, s, d)."""
        if layer not in self.means and keys.shape[2]:
            self.means[layer] = keys.float().mean(2, keepdim=True)

    def assign(self, layer: int, vectors: Tensor) -> Tensor:
        """The bucket (b, n, s) int16 of each vector (b, n, s, d)."""
        return self._number(self._margins(layer, vectors) > 0).to(torch.int16)

    def probes(self, layer: int, vectors: Tensor, count: int) -> Tensor:
        """The own bucket, then the buckets one low-margin bit away, (b, n, s, count)."""
        margins = self._margins(layer, vectors)
        own = self._number(margins > 0)
        unsure = margins.abs().argsort(dim=-1)[..., : min(count - 1, self.bits)]
        near = own.unsqueeze(-1) ^ (1 << unsure)
        return torch.cat([own.unsqueeze(-1), near], -1).to(torch.int16)

    def state(self) -> dict[str, Tensor]:
        """The mean of each layer, by name."""
        return {str(layer): mean for layer, mean in self.means.items()}

    def restore(self, learnt: Mapping[str, Tensor]) -> None:
        """Replace the state by what `state` returned."""
        self.means = {int(layer): mean for layer, mean in learnt.items()}

    def _margins(self, layer: int, vectors: Tensor) -> Tensor:
        """Signed distances (b, n, s, bits) to the planes."""
        centred = vectors.float()
        if layer in self.means:
            centred = centred - self.means[layer].to(centred.device)
        return centred @ self._planes_on(centred.device)

    def _planes_on(self, device: torch.device) -> Tensor:
        if device not in self._device_planes:
            self._device_planes[device] = self.planes.to(device)
        return self._device_planes[device]

    def _number(self, bits: Tensor) -> Tensor:
        powers = 1 << torch.arange(self.bits, device=bits.device)
        return (bits.long() * powers).sum(-1)
