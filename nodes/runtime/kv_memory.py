"""KV caches under the host's memory management, which counts and offloads them like models."""

from __future__ import annotations

import weakref
from typing import Any, Protocol

import torch
from torch import nn

from .. import host


class Movable(Protocol):
    """A KV cache or another state of a run."""

    @property
    def bytes(self) -> int:
        """Bytes of all tensors."""

    @property
    def device(self) -> torch.device:
        """Where the tensors are."""

    @property
    def dropped(self) -> bool:
        """Whether the tensors were freed for good."""

    def move(self, device: torch.device) -> None:
        """Move the tensors, bit for bit."""

    def drop(self) -> None:
        """Free the tensors; whoever needs them makes them again."""


class LongtakeKVCache(nn.Module):
    """Stands for the caches where the host needs a module; the host logs its name."""


class KVMemory(host.ModelPatcher):
    """The KV caches of one rollout as one of the host's loaded models.

    When the host needs memory, the caches move to main memory, bit for bit, and the next claim
    brings them back. Without an accelerator they are dropped instead, and the rollout commits its
    finished chunks again.
    """

    def __init__(self, device: torch.device) -> None:
        super().__init__(LongtakeKVCache(), load_device=device, offload_device=torch.device("cpu"))
        self.caches: weakref.WeakSet[Movable] = weakref.WeakSet()

    @property
    def in_use(self) -> bool:
        """Whether any cache is allocated."""
        return any(not cache.dropped for cache in self.caches)

    @property
    def on_host(self) -> bool:
        """Whether caches of an accelerator are in main memory."""
        return any(cache.device != self.load_device for cache in self.caches)

    def to_host(self) -> int:
        """Move the caches to main memory and return the bytes that this freed."""
        return self._move(self.offload_device)

    # The host's interface

    def model_size(self) -> int:
        """Bytes of all caches."""
        return sum(cache.bytes for cache in self.caches)

    def loaded_size(self) -> int:
        """Bytes of the caches that are on their device."""
        return sum(cache.bytes for cache in self.caches if cache.device == self.load_device)

    def current_loaded_device(self) -> torch.device:
        return self.offload_device if self.on_host else self.load_device

    def is_dynamic(self) -> bool:
        return False

    def partially_load(self, device_to: torch.device, *_: Any, **__: Any) -> int:
        """Move all caches to the device."""
        return self._move(device_to)

    def partially_unload(self, *_: Any, **__: Any) -> int:
        """Free the memory of all caches."""
        return self._free()

    def unpatch_model(self, device_to: Any = None, unpatch_weights: bool = True) -> None:
        """Free the memory of all caches; the host unloads models this way."""
        if unpatch_weights:
            self._free()

    def _move(self, device: torch.device) -> int:
        moved = [cache for cache in self.caches if cache.device != device]
        for cache in moved:
            cache.move(device)
        return sum(cache.bytes for cache in moved)

    def _free(self) -> int:
        if self.load_device != self.offload_device:
            return self.to_host()
        freed = self.model_size()
        for cache in self.caches:
            cache.drop()
        return freed
