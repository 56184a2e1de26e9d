"""Identifies a model by a hash of names, shapes, dtypes and sampled values of its weights."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

SLICE_VALUES = 16


def fingerprint(
    weights: Mapping[str, Tensor], dtypes: Mapping[str, torch.dtype] | None = None
) -> str:
    """A hash that is equal only for equal names, shapes, dtypes and sampled slices of all tensors.

    Two models may differ in few tensors: by a merge into the feed-forward layers, or by a frame
    rate that was folded into one bias. Reading a slice of each takes a few milliseconds. Tensors
    that a host keeps in another dtype than it computes with are read in those `dtypes`.
    """
    read_as = dtypes or {}
    digest = hashlib.sha256()
    names = sorted(weights)
    for name in names:
        tensor = weights[name]
        digest.update(f"{name} {tuple(tensor.shape)} {read_as.get(name, tensor.dtype)};".encode())
    for name in names:
        tensor = weights[name].detach()
        for stored in stored_parts(tensor):
            flat = stored.reshape(-1)
            middle = len(flat) // 2
            values = flat[middle : middle + SLICE_VALUES]
            if stored.dtype is tensor.dtype:  # not quantised
                values = values.to(read_as.get(name, values.dtype))
            values = values.to("cpu", torch.float32)
            digest.update(values.contiguous().numpy().tobytes())
    return digest.hexdigest()[:32]


def stored_parts(tensor: Any) -> Iterator[Tensor]:
    """The plain tensors that a quantised one is made of: reshaping it would unpack it whole."""
    if not hasattr(tensor, "__tensor_flatten__"):
        yield tensor
        return
    names, _ = tensor.__tensor_flatten__()
    for name in names:
        yield getattr(tensor, name)


def network_fingerprint(module: Any) -> str | None:
    """A network's weights and class; None where no weights tell it from another one."""
    weights = module.state_dict() if hasattr(module, "state_dict") else {}
    if not weights:
        return None
    return f"{fingerprint(weights)} {type(module).__module__}.{type(module).__qualname__}"
