"""The weights of a MODEL, and the LoRAs that patch them."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from types import FunctionType, MethodType
from typing import Any

import comfy.sd
from torch import Tensor, nn

from .models import module_tree
from .whole import MODULATION

PACKAGE = "comfy"  # the host's own functions are defined in there


def weights_and_patches(model: Any) -> dict[str, list[Any]]:
    """For each tensor of the diffusion model: its unpatched value, then its patches (LoRA).

    This is the host's `get_key_patches`, but over parameters: the quantised layers of ComfyUI-GGUF
    add entries to `state_dict` that belong to no module.
    """
    entries: dict[str, list[Any]] = {}
    for name, weight in model.model.named_parameters():
        if name.startswith("diffusion_model."):
            backup = model.backup.get(name)
            unpatched = weight if backup is None else backup.weight
            entries[name] = [unpatched, *model.patches.get(name, ())]
    return entries


def layer_shapes(model: Any) -> dict[str, tuple[int, ...]]:
    """The shapes of all weights and modulations of a Wan MODEL, by official names of layers."""
    weights, end = module_tree(model).named_parameters(), ".weight"
    ends = (end, MODULATION)
    return {n.removesuffix(end): tuple(w.shape) for n, w in weights if n.endswith(ends)}


def with_lora(model: Any, parts: Mapping[tuple[str, str], Tensor], strength: float) -> Any:
    """A clone of a MODEL with a LoRA, given by layer (official name) and the host's role name."""
    lora = {f"diffusion_model.{layer}.{role}": tensor for (layer, role), tensor in parts.items()}
    return comfy.sd.load_lora_for_models(model, None, lora, strength, 0.0)[0]


def method_parts(part: object) -> list[object] | None:
    """The function of a layer's method, and the layer's tensors by name; None for all else.

    A merge names so how a quantised weight is unpacked. Weight and bias are left out: the weight
    stands beside the method, and the layer holds whatever was loaded last.
    """
    if not isinstance(part, MethodType) or not isinstance(part.__self__, nn.Module):
        return None
    layer = part.__self__
    own = (*layer.named_parameters(recurse=False), *layer.named_buffers(recurse=False))
    return [part.__func__, *((name, t) for name, t in own if name not in ("weight", "bias"))]


def is_own_function(part: Any) -> bool:
    """Whether a part of a patch is a function of the host that carries no values.

    A merge names with each weight how that is read, mostly by a function that returns it as it is.
    """
    if not isinstance(part, FunctionType) or part.__closure__:
        return False
    return part.__module__.split(".")[0] == PACKAGE


def patch_count(model: Any) -> int:
    """How many patches are on the weights of a MODEL, or beside them as a bypassing LoRA's are.

    The host's id of them changes with the dtype to compute in, too.
    """
    return sum(map(len, (*model.patches.values(), *model.injections.values())))


def has_lora(model: Any) -> bool:
    """Whether a MODEL has patches that add to its weights."""
    return any(_is_added(patch) for stack in model.patches.values() for patch in stack)


def with_lora_factor(model: Any, factor: float) -> Any:
    """A clone of a MODEL whose additive patches are `factor` times as strong.

    At 0 they are gone: the host would pack a quantised weight again, into other numbers.
    """
    clone = model.clone()
    scaled = {name: _scaled(stack, factor) for name, stack in model.patches.items()}
    clone.patches = {name: stack for name, stack in scaled.items() if stack}
    clone.patches_uuid = uuid.uuid4()
    return clone


def _scaled(stack: list[Any], factor: float) -> list[Any]:
    if not factor:
        return [patch for patch in stack if not _is_added(patch)]
    return [(p[0] * factor, *p[1:]) if _is_added(p) else p for p in stack]


def _is_added(patch: tuple[Any, ...]) -> bool:
    """Whether a patch adds to a weight; it is (strength, patch, strength of the weight, ...)."""
    return len(patch) < 3 or patch[2] == 1.0
