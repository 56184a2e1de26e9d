"""What decoding takes where it has a device of its own."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from ...attention.storage.placement import OnDisk
from ...model.vae.decoder_memory import DecoderMemory
from ...units import byte_size
from .. import host
from .footprint import RolloutFootprint


@dataclass(frozen=True, slots=True)
class DecodingApart:
    """The decoder's memory, the VAE's weights and the free bytes on that device."""

    device: torch.device
    memory: DecoderMemory
    weights: host.Weights
    free_bytes: int

    @property
    def decoding_bytes(self) -> int:
        """What decoding takes beside the weights."""
        return self.memory.state_bytes + self.memory.working_bytes

    @property
    def total_bytes(self) -> int:
        """What decoding takes with all weights."""
        return self.decoding_bytes + self.weights.total_bytes

    @property
    def fits(self) -> bool:
        """Whether decoding and the least of the weights fit at once."""
        return self.decoding_bytes + self.weights.min_bytes <= self.free_bytes

    @property
    def summary(self) -> str:
        """The bytes on that device, without a full stop."""
        weights = byte_size(self.weights.total_bytes)
        return f"On {self.device}: decoding {byte_size(self.decoding_bytes)}, VAE weights {weights}"

    @property
    def refusal(self) -> str:
        """Say why decoding does not fit."""
        needed = byte_size(self.decoding_bytes + self.weights.min_bytes)
        return (
            f"Decoding needs {needed} of memory on {self.device}, but only "
            f"{byte_size(self.free_bytes)} is available there; set decode_on to another device, or "
            "lower width, height or chunk_frames."
        )


def plan_apart(
    device: torch.device, memory: DecoderMemory, weights: host.Weights, shot: RolloutFootprint
) -> DecodingApart:
    """Plan decoding on `device`, beside what the shot itself keeps in main memory."""
    free = host.usable_memory_bytes(device)
    if device.type == "cpu" and not isinstance(shot.settings.placement, OnDisk):
        free = max(0, free - shot.offloaded_bytes)
    return DecodingApart(device, memory, weights, free)
