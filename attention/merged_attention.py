"""Self-attention of the active latent frames over a merged history and themselves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from .dense import parts
from .kernels.biased import attend_biased
from .laid import Laid
from .rope import rotate

if TYPE_CHECKING:
    from .temp_cache import MergedCache


class MergedAttention:
    """Active frame i sees all entries and the first `visible[i]` active ones.

    Valid until the next commit.
    """

    def __init__(self, cache: MergedCache, visible: Sequence[int], rows: slice, at: int) -> None:
        self.cache, self.rows, self.visible = cache, rows, visible
        self._now = cache.rotation(range(at, at + len(visible)))

    def __call__(self, layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Attend un-rotated q, k, v (b, s, n, d) of the active frames."""
        laid = self.laid(layer, q, k, v)
        made = []
        for queries, own in parts(self.visible, 0, self.cache.shape.frame_tokens):
            stop = laid.past + own
            bias = None if laid.bias is None else laid.bias[:, :, :stop]
            keys, values = laid.keys[:, :, :stop], laid.values[:, :, :stop]
            made.append(attend_biased(laid.q[:, :, queries], keys, values, bias))
        return torch.cat(made, 2).transpose(1, 2)  # (b, s, n, d)

    def laid(self, layer: int, q: Tensor, k: Tensor, v: Tensor) -> Laid:
        """Entries, then the active frames, in the cache's own memory."""
        cache, past = self.cache, self.cache.extent[layer]
        stop = past + k.shape[1]
        keys, values, bias = cache.workspace(layer, self.rows)
        keys[:, :, past:stop] = rotate(k, self._now).transpose(1, 2)
        values[:, :, past:stop] = v.transpose(1, 2)
        turned = rotate(q, self._now).transpose(1, 2)
        cache.asked(layer, self.rows, turned)
        of_keys = None if cache.plain(layer) else bias[:, :, :stop]
        return Laid(turned, keys[:, :, :stop], values[:, :, :stop], of_keys, past)
