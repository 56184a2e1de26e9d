"""The device under a bench: its clock, and the memory that work takes."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch

from .allocator import allocator_peak


def clock(device: torch.device) -> Callable[[], float]:
    """Return a clock in seconds: processor time on a CPU, wall time on CUDA.

    A busy machine hardly changes processor time. On CUDA the clock waits until the device has
    finished its work.
    """
    if device.type != "cuda":
        return time.process_time

    def read() -> float:
        torch.cuda.synchronize(device)
        return time.perf_counter()

    return read


def device_title(device: torch.device) -> str:
    """Return the name of a GPU, or `a CPU`."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "a CPU"


def free_bytes(device: torch.device) -> int | None:
    """Return the free bytes of a GPU; None for main memory, which the system manages."""
    return torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else None


def peak_in_work(run: Callable[[], object], device: torch.device) -> int:
    """Return the most bytes of tensors that `run` allocates at once, including kernels' scratch.

    Memory allocated before does not count. On a CPU this uses torch's profiler, so never time it.
    """
    if device.type != "cuda":
        return allocator_peak(run)
    torch.cuda.synchronize(device)
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    run()
    torch.cuda.synchronize(device)
    return torch.cuda.max_memory_allocated(device) - before
