"""Resting states under the host's memory management, which clears them with all other models."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from ...stream.rollout.hot_states import HotStates
from .. import host

MAX_BYTES = 2 * 2**30
FREE_DIVISOR = 4  # at most a quarter of the free main memory
MAIN_MEMORY = ("cpu", "mps")
"""Kinds of device whose memory is the main memory."""
MORE_THAN_A_CARD = 2**62
"""Bytes. The host's request for everything is larger."""


def resting_budget() -> int:
    """The bytes that resting states may use now."""
    return min(MAX_BYTES, host.free_memory_bytes() // FREE_DIVISOR)


class LongtakeStates(nn.Module):
    """Stands for the states where the host needs a module; the host logs its name."""


class StateMemory(host.ModelPatcher):
    """All resting states as one of the host's loaded models.

    The states are copies in main memory, so the host may clear them at any time, for example on
    /free. The next run then replays. A request for a card's memory leaves them alone: they take
    none of it. The host asks before it unloads, and says how much it wants, where a model holds
    more than that. So beside a card the states seem to hold more than any card has.
    """

    def __init__(self, states: HotStates, device: torch.device) -> None:
        super().__init__(LongtakeStates(), load_device=device, offload_device=torch.device("cpu"))
        self.states = states
        self._is_beside_card = device.type not in MAIN_MEMORY

    # The host's interface

    def model_size(self) -> int:
        """Bytes of all states; none of a card's."""
        return 0 if self._is_beside_card else self.states.bytes

    def loaded_size(self) -> int:
        return MORE_THAN_A_CARD if self._is_beside_card else self.states.bytes

    def current_loaded_device(self) -> torch.device:
        return self.offload_device if self._is_beside_card else self.load_device

    def is_dynamic(self) -> bool:
        return False

    def partially_load(self, device_to: torch.device, *_: Any, **__: Any) -> int:
        return 0

    def partially_unload(
        self, device_to: torch.device, memory_to_free: float = 0, *_: Any, **__: Any
    ) -> float:
        """Clear all states; beside a card do nothing and say so much is free, or all would go."""
        return memory_to_free if self._is_beside_card else self._clear()

    def unpatch_model(self, device_to: Any = None, unpatch_weights: bool = True) -> None:
        """Clear all states; the host unloads models this way."""
        if unpatch_weights:
            self._clear()

    def _clear(self) -> int:
        freed = self.states.bytes
        self.states.clear()
        return freed
