"""Self-attention of the active latent frames over a merged history and themselves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from torch import Tensor

from ..dense import parts
from ..layout import AttentionInputs, attend_inputs
from ..rope import rotate

if TYPE_CHECKING:
    from .cache import MergedCache


class MergedAttention:
    """Active frame i sees all entries and the first `visible[i]` active ones.

    Valid until the next commit. Where it is `measured`, the cache gets a sample of the queries.
    """

    def __init__(
        self, cache: MergedCache, visible: Sequence[int], rows: slice, positions: Sequence[int]
    ) -> None:
        self.cache, self.rows = cache, rows
        self.measured = False
        self._parts = parts(visible, 0, cache.shape.frame_tokens)
        self._now = cache.rotation_now(positions)

    def __call__(self, layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Attend un-rotated q, k, v (b, s, n, d) of the active frames."""
        return attend_inputs(self.laid(layer, q, k, v)).transpose(1, 2)

    def laid(self, layer: int, q: Tensor, k: Tensor, v: Tensor) -> AttentionInputs:
        """Entries, then the active frames, in the cache's own memory."""
        cache, past = self.cache, self.cache.extent[layer]
        stop, tokens = past + k.shape[1], cache.shape.frame_tokens
        keys, values, bias = cache.workspace(layer, self.rows)
        keys[:, :, past:stop] = rotate(k, self._now).transpose(1, 2)
        values[:, :, past:stop] = v.transpose(1, 2)
        turned = rotate(q, self._now).transpose(1, 2)
        if self.measured:
            cache.asked(layer, self.rows, turned)
        sink = min(cache.policy.sink_frames, cache.committed)
        frames = [*range(sink), *[-1] * (-(-past // tokens) - sink)]
        of_keys = None if bias is None else bias[:, :, :stop]
        return AttentionInputs(
            turned, keys[:, :, :stop], values[:, :, :stop], of_keys, past,
            self._parts, frames, tokens,
        )  # fmt: skip
