"""Which kernel attends to selected keys: by name, or `auto`, with the reason.

A kernel never run on a kind of device is never `auto` there until `benchmarks/results` holds a
result from such a device; so far that leaves the portable one everywhere.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable

import torch
from torch import Tensor

from ..backends import flex_reason
from . import selected
from .key_selection import Read

AUTO, GATHERED, FLEX, TRITON = "auto", "gathered", "flex", "triton"
NAMES = (AUTO, GATHERED, FLEX, TRITON)

AttendSelected = Callable[[Tensor, Tensor, Tensor, Tensor | None, Read, int], Tensor]
"""The signature of `selected.attend_selected`."""


def chosen_kernel(name: str, device: torch.device) -> tuple[str, str]:
    """The kernel that `name` stands for on `device`, and why."""
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
    """The function of a kernel's name; its package is loaded when it is first asked for.

    Where there are no numbers no kernel can run: a rehearsal takes stock operations, which take the
    most memory.
    """
    match GATHERED if device.type == "meta" else chosen_kernel(name, device)[0]:
        case "flex":
            from . import flex

            return flex.attend_selected
        case "triton":
            from . import triton_selected

            return triton_selected.attend_selected
        case _:
            return selected.attend_selected
