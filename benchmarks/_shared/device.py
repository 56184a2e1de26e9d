"""What a bench asks of the device that it runs on: a clock, and how much memory work takes."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch

from .allocator import allocator_peak


def clock(device: torch.device) -> Callable[[], float]:
    """Seconds: the processor's time, which a busy machine changes little, or on CUDA all time, read
    when the device has done what it was given.
    """
    if device.type != "cuda":
        return time.process_time

    def read() -> float:
        torch.cuda.synchronize(device)
        return time.perf_counter()

    return read


def device_title(device: torch.device) -> str:
    """The name of a GPU, or `a CPU`."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "a CPU"


def free_bytes(device: torch.device) -> int | None:
    """What can still be allocated on a GPU; None of main memory, which the system looks after."""
    return torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else None


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
