"""Recognises errors that mean that memory ran out, on any device."""

from __future__ import annotations

import torch

CPU_ALLOCATOR = "DefaultCPUAllocator"  # its failure has no exception type of its own


def is_out_of_memory(error: BaseException) -> bool:
    """Whether `error` comes from an accelerator, from Python or from torch's CPU allocator."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and CPU_ALLOCATOR in str(error)
