"""Resting states under the host's memory management, which clears them when it unloads models."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from ...stream.rollout.hot_states import HotStates
from .. import host

MAX_BYTES = 2 * 2**30
FREE_DIVISOR = 4  # at most a quarter of the free main memory


def resting_budget() -> int:
    """The bytes that resting states may use now."""
    return min(MAX_BYTES, host.free_memory_bytes() // FREE_DIVISOR)


class LongtakeStates(nn.Module):
    """Stands for the states where the host needs a module; the host logs its name."""


class StateMemory(host.ModelPatcher):
    """All resting states as one of the host's loaded models.

    The states are copies in main memory, so the host may clear them at any time, for example on
    /free. The next run then replays.
    """

    def __init__(self, states: HotStates, device: torch.device) -> None:
        super().__init__(LongtakeStates(), load_device=device, offload_device=torch.device("cpu"))
        self.states = states

    # The host's interface

    def model_size(self) -> int:
        """Bytes of all states."""
        return self.states.bytes

    def loaded_size(self) -> int:
        return self.states.bytes

    def current_loaded_device(self) -> torch.device:
        return self.load_device

    def is_dynamic(self) -> bool:
        return False

    def partially_load(self, device_to: torch.device, *_: Any, **__: Any) -> int:
        return 0

    def partially_unload(self, *_: Any, **__: Any) -> int:
        """Free memory by clearing all states."""
        return self._clear()

    def unpatch_model(self, device_to: Any = None, unpatch_weights: bool = True) -> None:
        """Clear all states; the host unloads models this way."""
        if unpatch_weights:
            self._clear()

    def _clear(self) -> int:
        freed = self.states.bytes
        self.states.clear()
        return freed
