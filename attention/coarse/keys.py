"""Coarse keys in front of fine ones, as one attention reads both."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ...machine.uploads import upload
from ..cache.kv_cache import KVCache
from ..rope import Rotation

MIXED = -1  # in place of a latent frame, where as many tokens as a fine frame has are of several


class JoinedNumbers:
    """The latent frames of two caches, the `coarse` ones before the `fine` ones."""

    def __init__(self, coarse: KVCache, fine: KVCache) -> None:
        self.coarse, self.fine = coarse, fine

    @property
    def committed(self) -> int:
        """Latent frames committed since the history was last forgotten."""
        return max(self.coarse.committed, self.fine.committed)

    @property
    def next_frame(self) -> int:
        """The number of the latent frame that is committed next."""
        return self.committed

    @property
    def kept_frames(self) -> list[int]:
        """The coarse latent frames, then the fine ones."""
        return [*self.coarse.kept_frames, *self.fine.kept_frames]

    @property
    def positions(self) -> list[int]:
        """Window-relative position of each of them."""
        return [*self.coarse.positions, *self.fine.positions]

    @property
    def next_position(self) -> int:
        """The position of the frame that follows the history."""
        return len(self.kept_frames)


class JoinedKeys:
    """Rotated keys and values of two caches. A read copies both, unless nothing is coarse."""

    def __init__(self, numbers: JoinedNumbers) -> None:
        self._numbers = numbers
        self._coarse, self._fine = numbers.coarse.rotated_keys, numbers.fine.rotated_keys

    @property
    def frame_tokens(self) -> int:
        """Tokens of one fine latent frame."""
        return self._fine.frame_tokens

    def length(self, layer: int) -> int:
        """Keys of the history in `layer`."""
        return self._coarse.length(layer) + self._fine.length(layer)

    def frames(self, layer: int) -> list[int]:
        """-1 throughout: `key_frames` tells."""
        return [MIXED] * -(-self.length(layer) // self.frame_tokens)

    def key_frames(self, layer: int, rows: slice = slice(None)) -> Tensor:
        """The latent frame (1, 1, t) of each key, the same in all rows and heads."""
        numbers = self._numbers
        parts = [
            torch.tensor(cache.kept_frames).repeat_interleave(cache.shape.frame_tokens)
            for cache in (numbers.coarse, numbers.fine)
        ]
        return upload(torch.cat(parts).long().view(1, 1, -1), numbers.fine.device)

    def active_rotation(self, positions: Sequence[int]) -> Rotation:
        """The rotation of active frames at window-relative `positions`."""
        return self._fine.active_rotation(positions)

    def workspace(self, layer: int, rows: slice = slice(None)) -> tuple[Tensor, Tensor, None]:
        """Keys and values (b, n, t, d) of the batch `rows`, with room for active frames behind."""
        keys, values, _ = self._fine.workspace(layer, rows)
        count = self._coarse.length(layer)
        if not count:
            return keys, values, None
        older_keys, older_values, _ = self._coarse.workspace(layer, rows)
        return (
            torch.cat([older_keys[:, :, :count], keys], 2),
            torch.cat([older_values[:, :, :count], values], 2),
            None,
        )
