"""Devices, and requests for memory on them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import Any

import comfy.model_management
import torch
from comfy.cli_args import args
from torch import Tensor, nn

from .devices import device_locks
from .loaded_weights import loaded_bytes
from .whole import CASTS, keep_modulations, load_rest, manage_whole, patch_modulations

COMPUTE_DTYPE = "manual_cast_dtype"  # the object patch of the host's ModelComputeDtype


def manage(module: nn.Module, device: torch.device | None = None) -> Any:
    """Put a module under the host's memory management; returns its patcher, for `claim`.

    The module computes on `device`, or where the host runs VAEs.
    """
    return manage_whole(
        module,
        load_device=comfy.model_management.vae_device() if device is None else device,
        offload_device=comfy.model_management.vae_offload_device(),
    )


def manage_beside(module: nn.Module, model: Any) -> Any:
    """Put a module that runs beside a MODEL under the host's memory management."""
    return manage_whole(module, load_device=model.load_device, offload_device=model.offload_device)


def manage_as_model(module: nn.Module) -> Any:
    """Put a module under the host's memory management as a MODEL is."""
    return manage_whole(
        module,
        load_device=comfy.model_management.get_torch_device(),
        offload_device=comfy.model_management.unet_offload_device(),
    )


def claim(patchers: Sequence[Any], planned_bytes: int) -> None:
    """Load all `patchers` with their own patches, and keep `planned_bytes` free beside them.

    Call this before each chunk: another node may have used the same weights with another LoRA since
    the last chunk, or taken the memory. One call is needed for all, because two calls evict each
    other on a small card.
    """
    with _alone_with(patchers):
        for patcher in patchers:
            keep_modulations(patcher)
        comfy.model_management.load_models_gpu(list(patchers), memory_required=planned_bytes)
        for patcher in patchers:
            patch_modulations(patcher)


def claim_whole(patcher: Any, working_bytes: int) -> None:
    """Load one model completely, for modules that cannot be fetched one by one.

    With --novram the host loads no more than a part, whatever it is asked for.
    """
    with _alone_with([patcher]):
        comfy.model_management.load_models_gpu(
            [patcher], memory_required=working_bytes, force_full_load=True
        )
        load_rest(patcher)


def is_loaded(patcher: Any) -> bool:
    """Whether a model that was claimed still has weights on its device.

    Another claim may have unloaded it since. In main memory nothing is unloaded.
    """
    return patcher.load_device.type == "cpu" or patcher.loaded_size() > 0


@contextmanager
def _alone_with(patchers: Sequence[Any]) -> Iterator[None]:
    """Wait until no other thread computes on the devices of `patchers`."""
    with ExitStack() as stack:
        for lock in device_locks(patcher.load_device for patcher in patchers):
            stack.enter_context(lock)
        yield


def encoder_beside_models(clip: Any) -> Any:
    """`clip`, or its text encoder on the CPU if loading it would evict models from the card.

    The host's Select CLIP Device node moves it in the same way. With dynamic memory weights give
    way one by one and come back from main memory, while another encoder would be read from its file
    for every prompt, and not every loader can do that.
    """
    patcher = getattr(clip, "patcher", None)
    if patcher is None or patcher.load_device.type == "cpu" or patcher.is_dynamic():
        return clip
    missing = patcher.model_size() - patcher.loaded_size()
    if missing <= comfy.model_management.get_free_memory(patcher.load_device):
        return clip
    on_cpu = clip.clone()
    on_cpu.patcher.load_device = on_cpu.patcher.offload_device = torch.device("cpu")
    return on_cpu


def compute_place(model: Any) -> tuple[torch.device, torch.dtype]:
    """The device and dtype in which a MODEL computes, wherever its weights are.

    A dtype that a node has set is in the module that all clones share, but only while the MODEL
    that carries it is loaded.
    """
    inner = model.model
    if not hasattr(inner, COMPUTE_DTYPE):  # no diffusion model of the host's
        return model.load_device, inner.get_dtype_inference()
    return model.load_device, model.get_model_object(COMPUTE_DTYPE) or inner.get_dtype()


def weights_version(model: Any) -> object:
    """Another value whenever the loaded weights of a MODEL have other patches in them."""
    return getattr(model.model, "current_weight_patches_uuid", None)


def cast(parameter: Tensor, device: torch.device) -> Tensor:
    """Cast a bare parameter to float32 on `device`; modules fetch their own weights."""
    return comfy.model_management.cast_to(parameter, dtype=torch.float32, device=device)


def wants_float32_vae() -> bool:
    """Whether the host was started with --fp32-vae."""
    return bool(args.fp32_vae)


def wants_float32_model() -> bool:
    """Whether the host was started with --fp32-unet or --force-fp32."""
    return bool(args.fp32_unet or args.force_fp32)


def runtime_device() -> torch.device:
    """The device of LATENT and IMAGE tensors between nodes."""
    return comfy.model_management.intermediate_device()


@dataclass(frozen=True, slots=True)
class Weights:
    """Bytes of models' weights.

    `counted_bytes` are not yet subtracted from `usable_memory_bytes`. `min_bytes` is the smallest
    part of these that the host must have on the device at once.
    """

    total_bytes: int
    counted_bytes: int
    min_bytes: int

    def __add__(self, other: Weights) -> Weights:
        return Weights(
            self.total_bytes + other.total_bytes,
            self.counted_bytes + other.counted_bytes,
            self.min_bytes + other.min_bytes,
        )

    def in_turn(self, other: Weights) -> Weights:
        """Both, where the device needs only one of them at a time."""
        return replace(self + other, min_bytes=max(self.min_bytes, other.min_bytes))


def weights(patcher: Any) -> Weights:
    """The weights of a MODEL or of a VAE's patcher.

    Weights in main memory are no longer free memory, so only missing ones count. On a card all of
    its memory counts as usable, so all weights count. Of modules that fetch their weights only the
    largest must be on the card, of others all.
    """
    modules = [(loaded_bytes(module), hasattr(module, CASTS)) for module in patcher.model.modules()]
    total = sum(count for count, _ in modules)
    if patcher.load_device.type == "cpu":
        parameters = patcher.model.parameters()
        missing = sum(weight.nbytes for weight in parameters if weight.device.type != "cpu")
        return Weights(total, missing, missing)
    whole = sum(count for count, fetches in modules if not fetches)
    largest = max((count for count, fetches in modules if fetches), default=0)
    return Weights(total, total, whole + largest)


def usable_memory_bytes(device: torch.device) -> int:
    """Free main memory, or the memory of a card, which the host can empty.

    What the host keeps free on a card for others, as --reserve-vram says, is not counted.
    """
    if device.type == "cpu":
        return int(comfy.model_management.get_free_memory(device))
    total = comfy.model_management.get_total_memory(device)
    return int(total - comfy.model_management.extra_reserved_memory())


def free_memory_bytes() -> int:
    """The free main memory."""
    return int(comfy.model_management.get_free_memory(torch.device("cpu")))


def compute_device() -> torch.device:
    """The device on which the host runs models."""
    return comfy.model_management.get_torch_device()
