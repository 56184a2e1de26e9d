"""Devices, and asking the host for memory on them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import comfy.model_management
import comfy.model_patcher
import torch
from torch import Tensor, nn


def manage(module: nn.Module) -> Any:
    """A patcher for `claim`: the module under the host's memory management, as its own VAEs are."""
    return comfy.model_patcher.CoreModelPatcher(
        module,
        load_device=comfy.model_management.vae_device(),
        offload_device=comfy.model_management.vae_offload_device(),
    )


def claim(patchers: Sequence[Any], planned_bytes: int) -> None:
    """Ask for all `patchers` on their devices, their own patches applied, with room beside them.

    To be called before each chunk: another node may have used the same weights with another LoRA
    since the last one, or taken the memory. One call, because two calls evict each other on a small
    card.
    """
    comfy.model_management.load_models_gpu(list(patchers), memory_required=planned_bytes)


def claim_whole(patcher: Any, working_bytes: int) -> None:
    """Ask for one model whose modules cannot be fetched piece by piece, and room to work."""
    comfy.model_management.load_models_gpu(
        [patcher], memory_required=working_bytes, force_full_load=True
    )


def encoder_beside_models(clip: Any) -> Any:
    """`clip`, or the same text encoder on the CPU where loading it would push models off the card.

    As the host's own Select CLIP Device does it.
    """
    patcher = getattr(clip, "patcher", None)
    if patcher is None or patcher.load_device.type == "cpu":
        return clip
    missing = patcher.model_size() - patcher.loaded_size()
    if missing <= comfy.model_management.get_free_memory(patcher.load_device):
        return clip
    beside = clip.clone(disable_dynamic=True) if patcher.is_dynamic() else clip.clone()
    beside.patcher.load_device = beside.patcher.offload_device = torch.device("cpu")
    return beside


def compute_place(model: Any) -> tuple[torch.device, torch.dtype]:
    """Where a MODEL computes and in which dtype, wherever its weights are kept."""
    return model.load_device, model.model.get_dtype_inference()


def cast(parameter: Tensor, device: torch.device) -> Tensor:
    """A bare parameter in float32 on `device`; modules fetch their own weights when called."""
    return comfy.model_management.cast_to(parameter, dtype=torch.float32, device=device)


def runtime_device() -> torch.device:
    """Where the host keeps LATENT and IMAGE tensors between nodes."""
    return comfy.model_management.intermediate_device()


@dataclass(frozen=True, slots=True)
class Weights:
    """Bytes of models' weights: all; those that `usable_memory_bytes` does not take for used
    already; and how few of these the host can have on the device at once.
    """

    total_bytes: int
    counted_bytes: int
    min_bytes: int

    def __add__(self, other: Weights) -> Weights:
        """Of both."""
        return Weights(
            self.total_bytes + other.total_bytes,
            self.counted_bytes + other.counted_bytes,
            self.min_bytes + other.min_bytes,
        )


def weights(patcher: Any) -> Weights:
    """Those of a MODEL or of a VAE's patcher.

    In main memory they are there and not free, unless they are still elsewhere. Of a card all that
    there is counts as usable, so all of them count; a host that can leave parts of a model in main
    memory needs no more on the card at once than the largest module.
    """
    modules = [[one.nbytes for one in module.parameters(recurse=False)]
               for module in patcher.model.modules()]  # fmt: skip
    total = sum(map(sum, modules))
    if patcher.load_device.type == "cpu":
        elsewhere = [one for one in patcher.model.parameters() if one.device.type != "cpu"]
        missing = sum(one.nbytes for one in elsewhere)
        return Weights(total, missing, missing)
    in_parts = hasattr(patcher, "partially_unload")
    return Weights(total, total, max(map(sum, modules)) if in_parts else total)


def usable_memory_bytes(device: torch.device) -> int:
    """What may be asked for: free main memory, or all of a card's, which the host can empty."""
    if device.type == "cpu":
        return int(comfy.model_management.get_free_memory(device))
    return int(comfy.model_management.get_total_memory(device))


def free_memory_bytes() -> int:
    """Free main memory."""
    return int(comfy.model_management.get_free_memory(torch.device("cpu")))


def compute_device() -> torch.device:
    """Where the host runs models."""
    return comfy.model_management.get_torch_device()
