"""Weights as the host loads them, which may be others than those that it keeps.

With dynamic memory it keeps the weights of a file as they are, and casts what it loads.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

LOADED_DTYPE = "_comfy_model_dtype"
"""How the names of a module's attributes end by which the host notes the dtypes of its weights."""


PACKED = "_qdata"
"""What the host's quantised tensors have and others have not."""


def loaded_dtype(module: nn.Module, name: str, weight: Tensor) -> torch.dtype:
    """The dtype in which a weight of a module is loaded; a quantised one stays as it is."""
    noted: torch.dtype | None = getattr(module, name + LOADED_DTYPE, None)
    is_packed = hasattr(weight, PACKED) or not weight.is_floating_point()
    return weight.dtype if noted is None or is_packed else noted


def loaded_dtypes(tree: nn.Module) -> dict[str, torch.dtype]:
    """The dtypes in which all weights of a tree are loaded, by their names."""
    return {
        f"{path}.{name}".lstrip("."): loaded_dtype(module, name, weight)
        for path, module in tree.named_modules()
        for name, weight in module.named_parameters(recurse=False)
    }


def loaded_bytes(module: nn.Module) -> int:
    """The bytes of a module's own weights where they are loaded."""
    return sum(
        weight.nbytes // weight.dtype.itemsize * loaded_dtype(module, name, weight).itemsize
        for name, weight in module.named_parameters(recurse=False)
    )
