"""The host's memory for a rollout: its model, its VAEs and its KV caches, in one request."""

from __future__ import annotations

import time
import weakref
from collections.abc import Callable, Iterable
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from ...attention.history import HistoryCache
from .. import host
from .kv_memory import KVMemory
from .session import session


class Beside(Protocol):
    """A decoder or encoder that is claimed with the model."""

    patcher: Any

    @property
    def room_bytes(self) -> int:
        """Bytes that the next chunk will allocate."""


class Claim:
    """Asks the host, before each chunk, for its model and everything beside it, in one call.

    `wired` is the MODEL as it came over the wire, which others are made of; `model` the one that
    the run in progress has made of it.
    """

    def __init__(self, model: Any, device: torch.device) -> None:
        self.model = self.wired = model
        self._device = device
        self.memory = KVMemory(device)
        self.beside: weakref.WeakSet[Beside] = weakref.WeakSet()
        self.lasting: list[Beside] = []  # of these, those that are held by nobody else
        self.count = 0
        self.load_s: float | None = None  # what the first claim of a run took
        self.working_bytes: Callable[[], int] = lambda: 0  # what a pass of the model takes

    def claim(self, kv_bytes: int) -> nn.Module:
        """The module tree, ready, with room for `kv_bytes`, a pass and the VAEs."""
        began = time.perf_counter()
        self.count += 1
        planned = kv_bytes + self.working_bytes() + sum(one.room_bytes for one in self.beside)
        caches: list[Any] = [self.memory] if self.memory.in_use else []
        caches.append(session.state_memory(self.memory.load_device))  # so that /free reaches it
        patchers = [self.model, *(one.patcher for one in self.beside), *caches]
        host.claim(patchers, planned)
        if self.load_s is None:
            self.load_s = time.perf_counter() - began
        return host.module_tree(self.model)

    def sources(self, sources: Iterable[Beside]) -> None:
        """Ask for the VAEs alone that known latents are still to be read by."""
        for one in sources:
            host.claim([one.patcher], one.room_bytes)

    def cast(self, parameter: Tensor) -> Tensor:
        """Return a bare parameter in float32 on the model's device."""
        return host.cast(parameter, self._device)

    def check_interrupted(self) -> None:
        """Raise the host's exception if the user pressed Cancel."""
        host.check_interrupted()

    def register_cache(self, cache: HistoryCache) -> None:
        """Look after a KV cache that was made for this model."""
        self.memory.caches.add(cache)

    def offload_caches(self) -> None:
        """Free the KV caches' memory on an accelerator until the next claim."""
        self.memory.to_host()

    @property
    def scale_loras(self) -> Callable[[float], None] | None:
        """Multiply the strength of all LoRAs from the next claim on; None without LoRAs."""
        return self._scale_loras if host.has_lora(self.wired) else None

    def _scale_loras(self, factor: float) -> None:
        self.model = self.wired if factor == 1 else host.with_lora_factor(self.wired, factor)
