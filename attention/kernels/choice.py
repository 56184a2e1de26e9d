"""Choose the kernel for attention to selected keys, by name or `auto`, and give the reason.

`auto` picks a kernel only if `benchmarks/results` holds a result from that kind of device. So far
that leaves the portable kernel everywhere.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable

import torch
from torch import Tensor

from ..backends import flex_reason
from . import selected, shares
from .key_selection import KeySelection

AUTO, GATHERED, FLEX, TRITON = "auto", "gathered", "flex", "triton"
NAMES = (AUTO, GATHERED, FLEX, TRITON)

AttendSelected = Callable[[Tensor, Tensor, Tensor, Tensor | None, KeySelection, int], Tensor]
"""The signature of `selected.attend_selected`."""
SumShares = Callable[[Tensor, Tensor, Tensor, int], Tensor]
"""The signature of `shares.sum_shares`."""


def choose_kernel(name: str, device: torch.device) -> tuple[str, str]:
    """The kernel that `name` stands for on `device`, and the reason."""
    if name != AUTO:
        return name, "chosen by name"
    return GATHERED, f"no committed result shows another kernel to be faster on {device.type}"


def kernel_unavailable_reason(name: str, device: torch.device) -> str | None:
    """Why a kernel cannot be used on `device`, or None."""
    if name == FLEX:
        return flex_reason(device)
    if name == TRITON:
        if importlib.util.find_spec("triton") is None:
            return "triton is not installed"
        return None if device.type == "cuda" else f"it needs an NVIDIA GPU, not {device.type}"
    return None


def selected_kernel(name: str, device: torch.device) -> AttendSelected:
    """The kernel called `name`; its package is imported on first use.

    On the meta device this is always the portable kernel, which uses the most memory.
    """
    match GATHERED if device.type == "meta" else choose_kernel(name, device)[0]:
        case "flex":
            from . import flex

            return flex.attend_selected
        case "triton":
            from . import triton_selected

            return triton_selected.attend_selected
        case _:
            return selected.attend_selected


def shares_kernel(name: str, device: torch.device) -> SumShares:
    """What estimates shares of attention beside the kernel called `name`."""
    if device.type != "meta" and choose_kernel(name, device)[0] == TRITON:
        from . import triton_shares

        return triton_shares.sum_shares
    return shares.sum_shares
