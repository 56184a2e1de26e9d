"""MODEL in the stand-in: our own DiT with the part of the host's ModelPatcher that nodes use."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ....errors import BadInput
from ....model.checkpoint import build_dit, dequantise, load_dit
from ....model.config import config_from_shapes
from .loras import Change, changes

WeightPatch = tuple[float, Change]


def compute_device() -> torch.device:
    """The device of models, with its number, as tensors on it give theirs."""
    if not torch.cuda.is_available():
        return torch.device("cpu")
    return torch.device("cuda", torch.cuda.current_device())


def all_devices() -> list[torch.device]:
    gpus = [torch.device("cuda", number) for number in range(torch.cuda.device_count())]
    return gpus or [torch.device("cpu")]


def load_diffusion_model(path: str) -> Patcher:
    """Load a Wan-family file as MODEL, in float32."""
    model = _patcher(load_dit(Path(path)))
    model.cached_patcher_init = load_diffusion_model, (path,)
    return model


def load_diffusion_model_state_dict(
    sd: dict[str, Tensor],
    model_options: Mapping[str, Any] | None = None,
    metadata: Mapping[str, str] | None = None,
) -> Patcher:
    """Load Wan weights as MODEL, in float32 despite `model_options`; text to video only."""
    header = json.loads((metadata or {}).get("config", "{}")).get("transformer", {})
    config = config_from_shapes(sd, header.get("num_heads"))
    if config.in_channels != config.out_channels or "img_emb.proj.0.weight" in sd:
        raise BadInput("Image-to-video models need ComfyUI; add --comfy DIR.")
    return _patcher(build_dit(sd, config, Path("the model file")))


def convert_old_quants(
    state_dict: dict[str, Tensor], model_prefix: str, metadata: Mapping[str, str]
) -> tuple[dict[str, Tensor], Mapping[str, str]]:
    """Unpack scaled fp8 weights, where the host notes the format beside each layer."""
    return dequantise(state_dict, Path("the model file")), metadata


class VAE:
    """Reject the host's own VAEs, which the stand-in lacks."""

    def __init__(self, **_: Any) -> None:
        raise BadInput("VAE files need ComfyUI; use Load Demo Model's VAE, or add --comfy DIR.")


def load_lora_for_models(
    model: Patcher, clip: None, lora: Mapping[str, Tensor], strength: float, strength_clip: float
) -> tuple[Patcher, None]:
    """Return a clone of a MODEL with a LoRA applied."""
    twin = model.clone()
    twin.add_patches(changes(lora, model.model.state_dict()), strength)
    return twin, None


def _patcher(dit: nn.Module) -> Patcher:
    model = BaseModel(dit).eval()
    return Patcher(model, load_device=compute_device(), offload_device=torch.device("cpu"))


class CallbacksMP:
    """Callback times of the host's samplers; the stand-in never calls these."""

    ON_PRE_RUN = "on_pre_run"
    ON_CLEANUP = "on_cleanup"


class Backup(NamedTuple):
    """A tensor's value without patches."""

    weight: Tensor


class Patcher:
    """A module with its compute device: the part of the host's ModelPatcher that nodes use."""

    def __init__(
        self, model: nn.Module, *, load_device: torch.device, offload_device: torch.device
    ) -> None:
        self.model: Any = model
        self.parent: Patcher | None = None
        self.load_device = load_device
        self.offload_device = offload_device
        self.model_options: dict[str, Any] = {"transformer_options": {}}
        self.wrappers: dict[str, Any] = {}
        self.object_patches: dict[str, Any] = {}
        self.injections: dict[str, list[Any]] = {}
        self.weight_wrapper_patches: dict[str, list[Any]] = {}
        self.forced_hooks: Any = None
        self.attachments: dict[str, Any] = {}
        self.callbacks: dict[str, dict[str, list[Callable[[Patcher], None]]]] = {}
        self.cached_patcher_init: Any = None
        self.patches: dict[str, list[WeightPatch]] = {}
        self.patches_uuid = uuid.uuid4()

    def set_attachments(self, key: str, attachment: Any) -> None:
        self.attachments[key] = attachment

    def add_callback_with_key(
        self, call_type: str, key: str, callback: Callable[[Patcher], None]
    ) -> None:
        self.callbacks.setdefault(call_type, {}).setdefault(key, []).append(callback)

    def remove_callbacks_with_key(self, call_type: str, key: str) -> None:
        self.callbacks.get(call_type, {}).pop(key, None)

    def is_dynamic(self) -> bool:
        return False

    def loaded_size(self) -> int:
        """Bytes of the module's weights on its device."""
        weights = list(self.model.parameters())
        return sum(weight.nbytes for weight in weights if weight.device == self.load_device)

    def partially_load(self, device_to: torch.device, *_: Any) -> int:
        """Bring the module to `device_to`, with exactly this patcher's patches."""
        if isinstance(self.model, BaseModel):
            self.model.hold(self.patches, self.patches_uuid)
        first = next(self.model.parameters(), None)
        if first is None or first.device != device_to:  # else `to` takes 6 ms to change nothing
            self.model.to(device_to)
        return 0

    def add_patches(self, patches: Mapping[str, Change], strength: float) -> None:
        """Apply changes to these weights when the model is loaded."""
        for name, change in patches.items():
            self.patches[name] = [*self.patches.get(name, []), (strength, change)]
        self.patches_uuid = uuid.uuid4()

    def clone(self) -> Patcher:
        """Return another handle on the same weights."""
        twin = Patcher(self.model, load_device=self.load_device, offload_device=self.offload_device)
        twin.parent = self
        twin.attachments = dict(self.attachments)
        twin.callbacks = {
            when: {key: list(known) for key, known in keyed.items()}
            for when, keyed in self.callbacks.items()
        }
        twin.patches, twin.patches_uuid = dict(self.patches), self.patches_uuid
        twin.cached_patcher_init = self.cached_patcher_init
        return twin

    @property
    def backup(self) -> dict[str, Backup]:
        """The unpatched values of all patched weights."""
        unpatched: Mapping[str, Tensor] = getattr(self.model, "unpatched", {})
        return {name: Backup(value) for name, value in unpatched.items()}


class BaseModel(nn.Module):
    """The host's wrapper around a diffusion model."""

    def __init__(self, diffusion_model: nn.Module) -> None:
        super().__init__()
        self.diffusion_model = diffusion_model
        self.unpatched: dict[str, Tensor] = {}
        self.current_weight_patches_uuid: uuid.UUID | None = None

    @torch.no_grad()
    def hold(self, patches: Mapping[str, list[WeightPatch]], name: uuid.UUID) -> None:
        """Replace all earlier changes of the weights by `patches`, unless these are in force."""
        if name == self.current_weight_patches_uuid:
            return
        weights = dict(self.named_parameters())
        for changed, value in self.unpatched.items():
            weights[changed].copy_(value)
        self.unpatched = {changed: weights[changed].clone() for changed in patches}
        for changed, stack in patches.items():
            for strength, change in stack:
                weights[changed].add_(change.on(weights[changed]), alpha=strength)
        self.current_weight_patches_uuid = name

    def get_dtype_inference(self) -> torch.dtype:
        return next(self.parameters()).dtype
