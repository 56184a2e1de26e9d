"""Copies from main memory that do not wait for what the device still has to do."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

QUEUED = frozenset({"cuda"})
"""Kinds of device whose copies from pinned memory keep their source alive until they are done.

Others may read the source after it is freed (MPS), so a copy to them waits.
"""


def upload(values: Tensor, device: torch.device | str) -> Tensor:
    """`values` on `device`; the caller must not change them afterwards.

    A plain copy to CUDA waits until the device has done all its work, so that the next kernels
    cannot be queued meanwhile. From pinned memory a copy is queued like any kernel.
    """
    if values.device.type != "cpu" or torch.device(device).type not in QUEUED:
        return values.to(device)
    return values.pin_memory().to(device, non_blocking=True)


def upload_numbers(values: Sequence[Any] | float, like: Tensor) -> Tensor:
    """Numbers, nested or not, in `like`'s type on its device, as `like.new_tensor` gives them."""
    return upload(torch.tensor(values, dtype=like.dtype), like.device)
