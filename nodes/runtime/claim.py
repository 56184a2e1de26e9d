"""Asks the host for a rollout's model, VAEs and KV caches in one request per chunk."""

from __future__ import annotations

import time
import weakref
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from ...attention.history import HistoryCache
from ...model.arithmetic.packed import PackedWeights
from .. import host
from ..models.vace import vace_of
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

    `connected_model` is the MODEL as connected on the canvas, or a clone of it. `model` is the
    clone that the current run uses; the strength of its LoRAs may differ. `reservations` keeps
    co-claimed objects alive that nobody else holds. `second` are the second weights of a pair,
    which take turns with these. `beside` are patchers of modules that run in the same passes.
    `packed` are the weights of the last claim for products, which are in the dtype
    `products` on a CPU.
    """

    def __init__(
        self, model: Any, device: torch.device, products: torch.dtype = torch.float32
    ) -> None:
        self.model = self.connected_model = host.under_root(model)
        self._device = device
        self.memory = KVMemory(device)
        self.co_claimed: weakref.WeakSet[CoClaimed] = weakref.WeakSet()
        self.reservations: list[CoClaimed] = []
        self.count = 0
        self.load_s: float | None = None  # duration of the first claim of a run
        self.working_bytes: Callable[[], int] = lambda: 0  # of a pass of the model
        self.second: SecondClaim | None = None
        self.beside: list[Any] = []
        self.packed = PackedWeights(products)

    @property
    def weights(self) -> host.Weights:
        """The sizes of the weights; of a pair, only one set must be on the device at once."""
        own = host.weights(self.model)
        if self.second is not None:
            own = own.in_turn(host.weights(self.second.model))
        return sum(map(host.weights, self.beside), own)

    @property
    def models(self) -> list[Any]:
        """The MODELs that the current run uses."""
        return [self.model, *([] if self.second is None else [self.second.model])]

    def claim(self, kv_bytes: int) -> nn.Module:
        """Load the model and return its tree, with room for `kv_bytes`, a pass and the VAEs."""
        return self.claim_weights(self.model, self.packed, kv_bytes)

    def claim_weights(self, model: Any, packed: PackedWeights, kv_bytes: int) -> nn.Module:
        """Load the first or the second MODEL of the shot, with all that is loaded beside it."""
        start = time.perf_counter()
        self.count += 1
        partner_bytes = sum(partner.required_bytes for partner in self.co_claimed)
        caches: list[Any] = [self.memory] if self.memory.in_use else []
        caches.append(session.state_memory(self.memory.load_device))  # so that /free reaches it
        partners = (partner.patcher for partner in self.co_claimed)
        patchers = [model, *self.beside, *partners, *caches]
        host.claim(patchers, kv_bytes + self.working_bytes() + partner_bytes)
        packed.renew(host.weights_version(model))
        if self.load_s is None:
            self.load_s = time.perf_counter() - start
        return host.module_tree(model)

    def reserve_modules(self, *, reads_control: bool) -> None:
        """Load the models' VACE modules in every claim of a shot that reads a control video."""
        modules = map(vace_of, self.models) if reads_control else ()
        self.beside = [vace.patcher for vace in modules if vace is not None]

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

    def around_chunk(self) -> AbstractContextManager[object]:
        """Make the model's device the current one.

        The host waits for weights on that device's stream alone, and some kernels run there. A user
        may have chosen another device for the model by Select Model Device.
        """
        return host.as_current(self._device)

    @property
    def scale_loras(self) -> Callable[[float], None] | None:
        """Multiply the strength of all LoRAs from the next claim on; None without LoRAs."""
        connected = [self.connected_model, *([self.second.connected_model] if self.second else [])]
        return self._scale_loras if any(map(host.has_lora, connected)) else None

    def _scale_loras(self, factor: float) -> None:
        self.model = _scaled(self.connected_model, factor)
        if self.second is not None:
            self.second.model = _scaled(self.second.connected_model, factor)


class SecondClaim:
    """The engine's `ModelHost` for the second MODEL of a pair: everything else is the first's."""

    scale_loras: Callable[[float], None] | None = None  # the first claim scales both

    def __init__(self, model: Any, first: Claim) -> None:
        self.model = self.connected_model = host.under_root(model)
        self._first, self.packed = first, PackedWeights(first.packed.dtype)
        self.cast, self.check_interrupted = first.cast, first.check_interrupted
        self.register_cache, self.offload_caches = first.register_cache, first.offload_caches
        self.around_chunk = first.around_chunk

    def claim(self, kv_bytes: int) -> nn.Module:
        """Load the second model; the host may move the first one away."""
        return self._first.claim_weights(self.model, self.packed, kv_bytes)


def _scaled(model: Any, factor: float) -> Any:
    return model if factor == 1 else host.under_root(host.with_lora_factor(model, factor))
