"""Self-attention in the axes of each latent frame's camera, over keys as they are cached.

Every latent frame has an invertible matrix P, 4 by 4, which acts on groups of 4 channels of a head.
Queries are multiplied by P transposed, keys and values by the inverse of P, and results by P. So a
query and a key meet in the matrix of both frames alone: a change of the common axes cancels.

Keys and values are multiplied when they are read. The cache of plain attention serves both.
Source: PRoPE (arXiv 2507.10496), as in shengshu-ai/minWM df522a2 Wan21/wan/modules/prope.py.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ..machine.uploads import upload
from .dense import attend_in_parts, parts
from .history import HistoryCache
from .token_numbers import token_numbers

GROUP = 4
"""Channels that one matrix multiplies."""


@dataclass(frozen=True, slots=True)
class FrameMatrices:
    """A matrix (f, 4, 4) float32 of each latent frame, and its inverse, on the pass's device."""

    matrices: Tensor
    inverses: Tensor

    def to(self, device: torch.device) -> FrameMatrices:
        """The same matrices on `device`."""
        return FrameMatrices(upload(self.matrices, device), upload(self.inverses, device))


MatricesOf = Callable[[tuple[int, ...], int], FrameMatrices]
"""(latent frames, the frame whose axes are the common ones) -> their matrices."""


@dataclass(frozen=True, slots=True)
class ReadFrames:
    """What some batch rows of a pass read, by numbers of latent frames in the rollout.

    `past` lists the frames in the `slots` of the cache, `active` those of the pass. Active frame i
    sees all past ones and the first `visible[i]` active ones.
    """

    cache: HistoryCache
    rows: slice
    slots: tuple[int, ...]
    past: tuple[int, ...]
    active: tuple[int, ...]
    visible: tuple[int, ...]

    def keys_values(self, layer: int) -> tuple[Tensor, Tensor]:
        """Keys and values (b, t, n, d) of the past, without positions."""
        keys, values = (x[self.rows] for x in self.cache.history(layer))
        if self.slots == tuple(range(len(self.cache.kept_frames))):
            return keys, values
        tokens = token_numbers(self.slots, self.cache.shape.frame_tokens, keys.device)
        return keys[:, tokens], values[:, tokens]


class ProjectedAttention:
    """Attention of un-rotated q, k, v (b, s, n, d) in the axes of each latent frame's camera.

    Valid until the next commit.
    """

    def __init__(self, reads: ReadFrames, matrices: MatricesOf) -> None:
        self._reads = reads
        self._by = matrices((*reads.past, *reads.active), reads.active[0])
        tokens = reads.cache.shape.frame_tokens
        self._parts = parts(reads.visible, len(reads.past), tokens)

    def __call__(self, layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """The result (b, s, n, d) of one layer."""
        count = len(self._reads.past)
        active, inverses = self._by.matrices[count:], self._by.inverses
        if count:
            keys, values = self._reads.keys_values(layer)
            k, v = torch.cat([keys, k], 1), torch.cat([values, v], 1)
        q = multiply(q, active.transpose(-1, -2))
        out = attend_in_parts(q, multiply(k, inverses), multiply(v, inverses), self._parts)
        return multiply(out, active)


def multiply(x: Tensor, matrices: Tensor) -> Tensor:
    """Multiply each group of 4 channels of x (b, s, n, d) by its frame's matrix (f, 4, 4)."""
    groups = x.float().reshape(len(x), len(matrices), -1, GROUP)
    product = groups @ matrices.transpose(-1, -2)
    return product.reshape(x.shape).to(x.dtype)
