"""Refuses a LoRA that the host would leave out in part, or take for something else."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from pathlib import Path

from torch import Tensor

from ...errors import BadInput
from ..families.tensors import QUANTISED
from .roles import (
    ALONE,
    ALPHA,
    BIAS,
    DIFFERENCE,
    DOWN,
    GLORA,
    NORM,
    NORM_BIAS,
    REPLACEMENT,
    UP,
    WAYS,
    WHOLE_NUMBERS,
    Part,
    Shapes,
)

WHOLE, BIASES = (DIFFERENCE, NORM, REPLACEMENT), (BIAS, NORM_BIAS)  # as large as these
QUANTISERS = {*QUANTISED} - {ALPHA}


def check_unquantised(path: Path, stored: Iterable[str]) -> None:
    """BadInput where a name of the file is that of a scale: its weights are other numbers."""
    scale = next((name for name in stored if name.rpartition(".")[2] in QUANTISERS), None)
    if scale is not None:
        raise _quantised(path, scale)


def check_parts(parts: Mapping[Part, Tensor], layers: Shapes, path: Path) -> None:
    """BadInput unless all `parts` of the file are whole and fit the layers."""
    _check(parts, layers, path)
    _check_others(parts, layers, path)


def _check(parts: Mapping[Part, Tensor], layers: Shapes, path: Path) -> None:
    """Refuse half a pair, and a LoRA for another size of model."""
    for (module, role), tensor in parts.items():
        if not tensor.numel():
            raise BadInput(f"{path} is no whole LoRA: {module} has rank 0; get it again.")
        if not tensor.is_floating_point() and role not in WHOLE_NUMBERS:
            kind = str(tensor.dtype).removeprefix("torch.")
            raise _quantised(path, f"{module}.{role} is {kind}")
        if role == ALPHA and tensor.numel() != 1:
            raise BadInput(
                f"{path} has {tensor.numel()} numbers as the alpha of {module} instead of one; get "
                "the LoRA again."
            )
    for module in {module for module, role in parts if role in (UP, DOWN)}:
        up, down = parts.get((module, UP)), parts.get((module, DOWN))
        whole = up is not None and down is not None and min(up.ndim, down.ndim) > 1
        if up is None or down is None or not whole or up.shape[1] != len(down):
            raise BadInput(f"{path} is no whole LoRA: {module} has half a pair; get it again.")
        if not (up.float().any() or down.float().any()):  # training begins one of them as numbers
            raise BadInput(f"{path} has nothing but zeros for {module}; download it again.")
        shape = layers[module]
        has, changes = (shape[0], math.prod(shape[1:])), (len(up), down[0].numel())
        if has != changes:
            raise _other_size(path, module, has, changes)


def _check_others(parts: Mapping[Part, Tensor], layers: Shapes, path: Path) -> None:
    """Refuse differences and LyCORIS's factors for another size of model, and half of them.

    The host would log that it leaves such a layer as it is.
    """
    by_layer: dict[str, dict[str, Tensor]] = {}
    for (module, role), tensor in parts.items():
        by_layer.setdefault(module, {})[role] = tensor
    for module, roles in by_layer.items():
        shape = layers[module]
        _check_way(roles, module, path)
        for role in roles.keys() & {*WHOLE, *BIASES}:
            has = shape if role in WHOLE else shape[:1]
            if roles[role].shape != has:
                raise _other_size(path, module, has, tuple(roles[role].shape))
        count = _factored_count(roles)
        if count == 0:
            raise BadInput(f"{path} is no whole LoRA: {module} lacks a factor; get it again.")
        if count not in (None, math.prod(shape)):
            raise _other_size(path, module, (math.prod(shape),), (count,))


def _check_way(roles: Mapping[str, Tensor], module: str, path: Path) -> None:
    """Refuse a layer that is changed in two ways, of which the host takes one, or in half a way."""
    ways = [way for pattern, way in WAYS if any(map(pattern.fullmatch, roles))]
    if len(ways) > 1:
        raise BadInput(
            f"{path} changes the weight of {module} by {ways[0]} and by {ways[1]}, and ComfyUI "
            "would take only one of them; use a file with one of them for each layer."
        )
    rest = [role for role in roles if role not in ALONE]
    if rest and not ways:
        raise BadInput(
            f"{path} is no whole LoRA: {module} has {rest[0]} and nothing that it belongs to; get "
            "it again."
        )
    if 0 < len(GLORA & roles.keys()) < len(GLORA):
        raise BadInput(f"{path} is no whole LoRA: {module} lacks a factor; get it again.")


def _factored_count(roles: Mapping[str, Tensor]) -> int | None:
    """How many numbers of a weight LoKr's or LoHa's factors make, 0 if one is missing.

    None if there are no such factors, or those of a convolution.
    """
    kinds = {role.partition("_")[0] for role in roles} & {"lokr", "hada"}
    if not kinds or any(role.endswith(("_t1", "_t2")) for role in roles):
        return None
    first, second = (_factor_count(roles, f"{min(kinds)}_w{n}") for n in (1, 2))
    if kinds == {"lokr"}:
        return first * second
    return first if first == second else 0


def _factor_count(roles: Mapping[str, Tensor], name: str) -> int:
    """How many numbers a factor has, which is whole or a product of two; 0 where it is missing."""
    if name in roles:
        return roles[name].numel()
    left, right = roles.get(f"{name}_a"), roles.get(f"{name}_b")
    if left is None or right is None or left.ndim < 2 or left.shape[1] != len(right):
        return 0
    return len(left) * right[0].numel()


def _other_size(
    path: Path, module: str, has: tuple[int, ...], changes: tuple[int, ...]
) -> BadInput:
    mine, its = (" x ".join(map(str, shape)) for shape in (has, changes))
    return BadInput(
        f"{path} was made for a model of another size: {module} has {mine} numbers and it changes "
        f"{its}; use a LoRA for this model."
    )


def _quantised(path: Path, by: str) -> BadInput:
    return BadInput(
        f"{path} is a quantised LoRA ({by}), which ComfyUI would add as it is stored; use an "
        "fp32, fp16 or bf16 file."
    )
