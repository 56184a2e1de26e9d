"""A model host that a test can watch and interrupt."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from longtake.attention.history import HistoryCache
from longtake.model.config import DiTConfig
from longtake.samplers.denoiser import Denoiser, LocalHost, ModelHost


def _nothing(*_: object) -> None:
    """The default of every hook."""


class WatchedHost:
    """Calls a hook, then `host`, wherever a host may act."""

    def __init__(
        self,
        host: ModelHost,
        on_check: Callable[[], object] = _nothing,
        on_register: Callable[[Any], object] = _nothing,
        on_offload: Callable[[], object] = _nothing,
        on_claim: Callable[[int], object] = _nothing,
    ) -> None:
        self._host, self._on_check, self._on_claim = host, on_check, on_claim
        self._on_register, self._on_offload = on_register, on_offload
        self.cast, self.scale_loras = host.cast, host.scale_loras
        self.around_chunk = host.around_chunk

    def claim(self, kv_bytes: int) -> Any:
        self._on_claim(kv_bytes)
        return self._host.claim(kv_bytes)

    def check_interrupted(self) -> None:
        self._on_check()
        self._host.check_interrupted()

    def register_cache(self, cache: HistoryCache) -> None:
        self._on_register(cache)
        self._host.register_cache(cache)

    def offload_caches(self) -> None:
        self._on_offload()
        self._host.offload_caches()


def model_with_hooks(model: Denoiser, **hooks: Callable[..., object]) -> Denoiser:
    """The model in a host that also calls `on_claim`, `on_check`, `on_register`, `on_offload`."""
    return replace(model, host=WatchedHost(model.host, **hooks))


def model_with_claims(tree: Any, config: DiTConfig, on_claim: Callable[[int], object]) -> Denoiser:
    """A local model whose claims are watched."""
    return Denoiser(WatchedHost(LocalHost(tree), on_claim=on_claim), config)
