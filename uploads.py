"""Copies from main memory that do not wait for what the device still has to do."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor


def upload(values: Tensor, device: torch.device | str) -> Tensor:
    """`values` on `device`; the caller must not change them afterwards.

    A plain copy to CUDA waits until the device has done all its work, so that the next kernels
    cannot be queued meanwhile. From pinned memory a copy is queued like any kernel.
    """
    kind = torch.device(device).type
    if kind in ("cpu", "meta"):
        return values.to(device)
    source = values.pin_memory() if kind == "cuda" and not values.is_cuda else values
    return source.to(device, non_blocking=True)


def upload_numbers(values: Sequence[Any] | float, like: Tensor) -> Tensor:
    """Numbers, nested or not, in `like`'s type on its device, as `like.new_tensor` gives them."""
    return upload(torch.tensor(values, dtype=like.dtype), like.device)
