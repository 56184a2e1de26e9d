"""Asks the host for a rollout's model, VAEs and KV caches in one request per chunk."""

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


class CoClaimed(Protocol):
    """A decoder or encoder that is claimed together with the model."""

    patcher: Any

    @property
    def required_bytes(self) -> int:
        """Bytes that the next chunk will allocate."""


class Claim:
    """The engine's `ModelHost` for one of ComfyUI's models.

    `connected_model` is the MODEL as connected on the canvas. `model` is the clone that the current
    run uses; the strength of its LoRAs may differ. `reservations` keeps co-claimed objects alive
    that nobody else holds.
    """

    def __init__(self, model: Any, device: torch.device) -> None:
        self.model = self.connected_model = model
        self._device = device
        self.memory = KVMemory(device)
        self.co_claimed: weakref.WeakSet[CoClaimed] = weakref.WeakSet()
        self.reservations: list[CoClaimed] = []
        self.count = 0
        self.load_s: float | None = None  # duration of the first claim of a run
        self.working_bytes: Callable[[], int] = lambda: 0  # of a pass of the model

    @property
    def weights(self) -> host.Weights:
        """The sizes of the model's weights."""
        return host.weights(self.model)

    def claim(self, kv_bytes: int) -> nn.Module:
        """Load the model and return its tree, with room for `kv_bytes`, a pass and the VAEs."""
        start = time.perf_counter()
        self.count += 1
        partner_bytes = sum(partner.required_bytes for partner in self.co_claimed)
        caches: list[Any] = [self.memory] if self.memory.in_use else []
        caches.append(session.state_memory(self.memory.load_device))  # so that /free reaches it
        patchers = [self.model, *(partner.patcher for partner in self.co_claimed), *caches]
        host.claim(patchers, kv_bytes + self.working_bytes() + partner_bytes)
        if self.load_s is None:
            self.load_s = time.perf_counter() - start
        return host.module_tree(self.model)

    def claim_sources(self, sources: Iterable[CoClaimed]) -> None:
        """Load the VAEs of known frames that are still to be encoded, without the model."""
        for source in sources:
            host.claim([source.patcher], source.required_bytes)

    def cast(self, parameter: Tensor) -> Tensor:
        """Return a bare parameter in float32 on the model's device."""
        return host.cast(parameter, self._device)

    def check_interrupted(self) -> None:
        """Raise the host's exception if the user pressed Cancel."""
        host.check_interrupted()

    def register_cache(self, cache: HistoryCache) -> None:
        """Put a KV cache of this model under the host's memory management."""
        self.memory.caches.add(cache)

    def offload_caches(self) -> None:
        """Free the KV caches' memory on an accelerator until the next claim."""
        self.memory.to_host()

    @property
    def scale_loras(self) -> Callable[[float], None] | None:
        """Multiply the strength of all LoRAs from the next claim on; None without LoRAs."""
        return self._scale_loras if host.has_lora(self.connected_model) else None

    def _scale_loras(self, factor: float) -> None:
        connected = self.connected_model
        self.model = connected if factor == 1 else host.with_lora_factor(connected, factor)
