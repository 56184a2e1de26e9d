"""What the host would load in part: modules whose layers fetch no weights, and patches."""

from __future__ import annotations

import uuid
from typing import Any

import torch
from comfy.model_patcher import ModelPatcher
from torch import nn

CASTS = "comfy_cast_weights"
"""The attribute by which the host knows a layer that fetches its weights from main memory."""
MODULATION = ".modulation"
"""How the names of a Wan model's parameters end that are neither weight nor bias of a layer."""
EVERYTHING = 1e32
"""More bytes than a model has; the host's own number."""


class WholePatcher(ModelPatcher):
    """A module of torch's own layers, which compute only where their weights are.

    Where a card is short, and always with --novram, the host would leave some of these layers in
    main memory, and the next pass would fail. So the module is loaded and unloaded as a whole.
    """

    def partially_load(
        self, device_to: torch.device, extra_memory: float = 0, force_patch_weights: bool = False
    ) -> Any:
        """Load the whole module, whatever room the host sees."""
        return super().partially_load(device_to, EVERYTHING, force_patch_weights)

    def partially_unload(self, device_to: torch.device, *_: Any, **__: Any) -> int:
        """Unload the whole module; returns the bytes that this freed."""
        freed = int(self.loaded_size())
        self.unpatch_model(device_to, unpatch_weights=True)
        return freed


def manage_whole(
    module: nn.Module, *, load_device: torch.device, offload_device: torch.device
) -> Any:
    """Put a module of our own under the host's memory management; returns its patcher.

    A host with dynamic memory moves only its own layers a part at a time. It would load torch's
    anew in every claim, and unload none of them for its models. What it keeps on a module for that
    cannot be copied with the module either.
    """
    return WholePatcher(module, load_device=load_device, offload_device=offload_device)


def load_rest(patcher: Any) -> None:
    """Load what the host has left of a model in main memory."""
    if not patcher.is_dynamic():
        patcher.partially_load(patcher.load_device, EVERYTHING)


def patch_modulations(patcher: Any) -> None:
    """Patch the modulations of a loaded model.

    The host takes such patches of a LoRA, and then loads only modules without modules inside. It
    takes these off together with its own. A mark says that the weights are not as the host loads
    them, so that a sampler of its own, which comes after us, gets what it has without us.
    """
    names = _modulations(patcher)
    for name in names:
        if name not in patcher.backup:
            patcher.patch_weight_to_device(name, patcher.load_device)
    if names and not patcher.is_dynamic():  # those take them off in each load
        patcher.model.current_weight_patches_uuid = _mark(patcher)


def keep_modulations(patcher: Any) -> None:
    """Take the mark of `patch_modulations` away before a load for us, which has nothing to do."""
    if _modulations(patcher) and patcher.model.current_weight_patches_uuid == _mark(patcher):
        patcher.model.current_weight_patches_uuid = patcher.patches_uuid


def _modulations(patcher: Any) -> list[str]:
    """The names of the modulations that a MODEL patches."""
    return [name for name in patcher.patches if name.endswith(MODULATION)]


def _mark(patcher: Any) -> uuid.UUID:
    """What the host compares with the number of a MODEL's patches."""
    return uuid.uuid5(patcher.patches_uuid, MODULATION)
