"""Resting states under the host's memory management: what it unloads, they let go of."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from ...stream.rollout.hot_states import HotStates
from .. import host

MAX_BYTES = 2 * 2**30
SHARE_OF_FREE = 4  # at most this part of what main memory has left


def resting_budget() -> int:
    """Bytes that resting states may take now."""
    return min(MAX_BYTES, host.free_memory_bytes() // SHARE_OF_FREE)


class LongtakeStates(nn.Module):
    """Stands for the states where the host wants a module; its name is in the host's log."""


class StateMemory(host.ModelPatcher):
    """All resting states, as one of the host's loaded models.

    They lie in main memory and are copies, so that the host need not ask before it lets them go:
    whenever it unloads this, as for /free, they are cleared, and the next run replays.
    """

    def __init__(self, states: HotStates, device: torch.device) -> None:
        super().__init__(LongtakeStates(), load_device=device, offload_device=torch.device("cpu"))
        self.states = states

    # What the host calls

    def model_size(self) -> int:
        """Bytes of all states."""
        return self.states.bytes

    def loaded_size(self) -> int:
        """All of it is where it belongs."""
        return self.states.bytes

    def current_loaded_device(self) -> torch.device:
        """Nothing needs to be loaded."""
        return self.load_device

    def is_dynamic(self) -> bool:
        """It is not loaded piece by piece."""
        return False

    def partially_load(self, device_to: torch.device, *_: Any, **__: Any) -> int:
        """There is nothing to bring."""
        return 0

    def partially_unload(self, *_: Any, **__: Any) -> int:
        """Free memory: all of it."""
        return self._clear()

    def unpatch_model(self, device_to: Any = None, unpatch_weights: bool = True) -> None:
        """The host unloads models this way."""
        if unpatch_weights:
            self._clear()

    def _clear(self) -> int:
        freed = self.states.bytes
        self.states.clear()
        return freed
