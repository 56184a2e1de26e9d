"""KV caches under the host's memory management: counted, moved away and brought back as models."""

from __future__ import annotations

import weakref
from typing import Any

import torch
from torch import nn

from ...attention.history import HistoryCache
from .. import host


class LongtakeKVCache(nn.Module):
    """Stands for the caches where the host wants a module; its name is in the host's log."""


class KVMemory(host.ModelPatcher):
    """The KV caches of one rollout, as one of the host's loaded models.

    Asked for memory, it moves them to main memory, bit for bit; where they are there already (no
    accelerator), it gives them up, and the rollout commits its finished chunks again. Being claimed
    brings them back.
    """

    def __init__(self, device: torch.device) -> None:
        super().__init__(LongtakeKVCache(), load_device=device, offload_device=torch.device("cpu"))
        self.caches: weakref.WeakSet[HistoryCache] = weakref.WeakSet()

    @property
    def in_use(self) -> bool:
        """Whether there is anything to manage."""
        return any(not cache.dropped for cache in self.caches)

    @property
    def on_host(self) -> bool:
        """Whether caches of an accelerator wait in main memory."""
        return any(cache.device != self.load_device for cache in self.caches)

    def to_host(self) -> int:
        """Move the caches to main memory; gives how many bytes that freed."""
        return self._move(self.offload_device)

    # What the host calls

    def model_size(self) -> int:
        """Bytes of all caches."""
        return sum(cache.bytes for cache in self.caches)

    def loaded_size(self) -> int:
        """Bytes of those that are where they are used."""
        return sum(cache.bytes for cache in self.caches if cache.device == self.load_device)

    def current_loaded_device(self) -> torch.device:
        """Where they are."""
        return self.offload_device if self.on_host else self.load_device

    def is_dynamic(self) -> bool:
        """They are not loaded piece by piece."""
        return False

    def partially_load(self, device_to: torch.device, *_: Any, **__: Any) -> int:
        """Bring all of them back."""
        return self._move(device_to)

    def partially_unload(self, *_: Any, **__: Any) -> int:
        """Free memory: all of it."""
        return self._give_up()

    def unpatch_model(self, device_to: Any = None, unpatch_weights: bool = True) -> None:
        """The host unloads models this way."""
        if unpatch_weights:
            self._give_up()

    def _move(self, device: torch.device) -> int:
        moved = [cache for cache in self.caches if cache.device != device]
        for cache in moved:
            cache.move(device)
        return sum(cache.bytes for cache in moved)

    def _give_up(self) -> int:
        if self.load_device != self.offload_device:
            return self.to_host()
        freed = self.model_size()
        for cache in self.caches:
            cache.drop()
        return freed
