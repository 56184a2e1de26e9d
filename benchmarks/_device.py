"""What a bench asks of the device that it runs on: how much memory work takes at once."""

from __future__ import annotations

from collections.abc import Callable

import torch

from ._allocator import allocator_peak


def peak_in_work(run: Callable[[], object], device: torch.device) -> int:
    """The most bytes of tensors that `run` makes and holds at once, kernels' scratch included; what
    was there before does not count. On a CPU it runs under torch's profiler: never time it.
    """
    if device.type != "cuda":
        return allocator_peak(run)
    torch.cuda.synchronize(device)
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    run()
    torch.cuda.synchronize(device)
    return torch.cuda.max_memory_allocated(device) - before
