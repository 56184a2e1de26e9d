"""Numbers in float64, where a device computes them."""

from __future__ import annotations

import torch
from torch import Tensor

KINDS = frozenset({"cpu", "cuda", "meta"})
"""Kinds of device that compute in float64. Metal and DirectML do not, nor do NPUs."""
INTEL = "xpu"


def computes_float64(device: torch.device) -> bool:
    """Whether a device computes in float64; of Intel's GPUs some do, the first Arc cards do not."""
    if device.type == INTEL:
        return bool(torch.xpu.get_device_properties(device).has_fp64)
    return device.type in KINDS


def wide(x: Tensor) -> Tensor:
    """x in float64 if its device computes that, else in float32."""
    return x.to(torch.float64 if computes_float64(x.device) else torch.float32)


def bring(x: Tensor, device: torch.device) -> Tensor:
    """x on `device`; in float32 if it is in float64, and the device does not compute that."""
    narrow = x.dtype is torch.float64 and not computes_float64(device)
    return x.to(device, torch.float32) if narrow else x.to(device)
