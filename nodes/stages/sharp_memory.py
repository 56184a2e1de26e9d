"""A super-resolution's state under the host's memory management, and its claims of memory."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from ...model.flashvsr.upscaler import Upscaler
from ..runtime.kv_memory import KVMemory


class UpscalerState:
    """What `KVMemory` moves: the state of the upscaler that a run has now, on `device`."""

    dropped = False

    def __init__(self, device: torch.device, upscaler: Callable[[], Upscaler]) -> None:
        self.device, self._upscaler = device, upscaler

    @property
    def bytes(self) -> int:
        """Bytes of all tensors."""
        return self._upscaler().bytes

    def move(self, device: torch.device) -> None:
        """Move the tensors, bit for bit."""
        self._upscaler().move(device)
        self.device = device

    def drop(self) -> None:
        """Do nothing: in main memory this is the only copy."""


class SharpMemory(KVMemory):
    """The state of one run as one of the host's loaded models.

    When the host needs memory of a card, the state moves to main memory, and the next claim brings
    it back. Without a card nothing can be freed.
    """

    def __init__(self, device: torch.device, upscaler: Callable[[], Upscaler]) -> None:
        super().__init__(device)
        self._state = UpscalerState(device, upscaler)
        self.caches.add(self._state)

    def _free(self) -> int:
        return self.to_host() if self.load_device != self.offload_device else 0


@dataclass(eq=False)
class Partner:
    """A part of a super-resolution that is claimed together with the generator."""

    patcher: Any
    bytes_needed: Callable[[], int]

    @property
    def required_bytes(self) -> int:
        """Bytes that the next pass will allocate beside the generator's."""
        return self.bytes_needed()
