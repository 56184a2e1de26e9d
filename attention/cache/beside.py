"""A KV cache that holds, for the same latent frames, layers of another size beside its own.

They belong to a module that attends to the history too. Their numbers follow those of the model's
layers. What reads them takes no positions from here, so no policy that keeps distances between
positions goes with them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from ..snapshot import Snapshot, join
from ..storage.dense import DENSE, KeysValues, Storage
from ..storage.shape import CacheShape
from .kv_cache import KVCache
from .policy import CachePolicy
from .prompt_keys import PromptKeys

OWN, BESIDE = "own", "beside"


class BesideCache(KVCache):
    """A `KVCache` whose shape has others `beside` it: one more cache, which goes the same way."""

    def __init__(
        self,
        shape: CacheShape,
        policy: CachePolicy,
        length: int | None = None,
        device: torch.device | str = "cpu",
        storage: Storage = DENSE,
    ) -> None:
        assert shape.beside is not None
        super().__init__(replace(shape, beside=None), policy, length, device, storage)
        self._beside = KVCache(shape.beside, policy, length, device, storage)

    @property
    def bytes(self) -> int:
        """Bytes of all tensors on the device, of both caches."""
        return 0 if self.dropped else super().bytes + self._beside.bytes

    @property
    def offloaded_bytes(self) -> int:
        """Bytes in main memory or files, of both caches."""
        return 0 if self.dropped else super().offloaded_bytes + self._beside.offloaded_bytes

    def history(self, layer: int) -> tuple[Tensor, Tensor]:
        """Un-rotated keys and values (b, s, n, d) held for `layer`, in slot order."""
        own = self.shape.layers
        return super().history(layer) if layer < own else self._beside.history(layer - own)

    def commit(self, keys_values: KeysValues, prompt: PromptKeys | None = None) -> None:
        """Append finished latent frames: keys and values of the model's layers, then the others."""
        own = self.shape.layers
        super().commit(keys_values[:own], prompt)
        self._beside.commit(keys_values[own:])

    def assume(self, frames: int) -> None:
        """Hold the next latent `frames`, whose content is undefined; for rehearsals."""
        super().assume(frames)
        self._beside.assume(frames)

    def clear(self) -> None:
        """Forget the history; the next commit is of frame 0 again."""
        super().clear()
        self._beside.clear()

    def retain(self, frames: Sequence[int]) -> None:
        """Keep only those held latent frames that are in `frames`."""
        super().retain(frames)
        self._beside.retain(frames)

    def snapshot(self) -> Snapshot:
        """All state of both caches that later chunks depend on."""
        return join({}, {OWN: super().snapshot(), BESIDE: self._beside.snapshot()})

    def restore(self, snapshot: Snapshot) -> None:
        """Continue, bit for bit, from the `snapshot` of caches with the same settings."""
        super().restore(snapshot.part(OWN))
        self._beside.restore(snapshot.part(BESIDE))

    def move(self, device: torch.device | str) -> None:
        """Take all tensors to `device`, bit for bit."""
        super().move(device)
        self._beside.move(device)

    def drop(self) -> None:
        """Free all tensors; the cache cannot be used any more."""
        super().drop()
        self._beside.drop()
