"""Identifies a model by a hash of names, shapes, dtypes and sampled values of its weights."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

SAMPLED_TENSORS = 64
SLICE_VALUES = 16


def fingerprint(weights: Mapping[str, Tensor], sampled: int = SAMPLED_TENSORS) -> str:
    """A hash that is equal only for equal names, shapes, dtypes and sampled slices of 64 tensors.

    Reading 64 slices takes no time for a file of any size. Any training or merging step changes all
    weights; where one may change a single tensor, let `sampled` be their number.
    """
    digest = hashlib.sha256()
    names = sorted(weights)
    for name in names:
        tensor = weights[name]
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype};".encode())
    spaced = names[:: max(1, len(names) // sampled)][:sampled]
    for name in spaced:
        flat = weights[name].detach().reshape(-1)
        middle = len(flat) // 2
        values = flat[middle : middle + SLICE_VALUES].to("cpu", torch.float32)
        digest.update(values.contiguous().numpy().tobytes())
    return digest.hexdigest()[:32]


def network_fingerprint(module: Any) -> str | None:
    """A network's weights and class; None where no weights tell it from another one."""
    weights = module.state_dict() if hasattr(module, "state_dict") else {}
    if not weights:
        return None
    name = fingerprint(weights, len(weights))  # some networks differ in their last layer only
    return f"{name} {type(module).__module__}.{type(module).__qualname__}"
