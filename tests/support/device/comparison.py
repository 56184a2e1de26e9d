"""The same on a CPU and on a stand-in for CUDA."""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from longtake.tests.support.device.queues import DEVICE

CPU = torch.device("cpu")


def compare(make: Callable[[torch.device], Tensor]) -> dict[str, Any]:
    """How far what is made on the stand-in is from the CPU's, and the faults that it saw."""
    with torch.inference_mode():
        with torch._C.DisableTorchFunction():  # as where nobody stands in for CUDA
            expected = make(CPU)
        DEVICE.faults.clear()
        ours = make(torch.device("cuda", 0))
    gc.collect()
    DEVICE.wait_for_all()
    return {"off": (ours - expected).abs().max().item(), "faults": sorted(set(DEVICE.faults))}
