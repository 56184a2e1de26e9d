"""Whether an error means that memory ran out, on whichever device."""

from __future__ import annotations

import torch

CPU_ALLOCATOR = "DefaultCPUAllocator"  # torch's, whose failure has no type of its own


def is_out_of_memory(error: BaseException) -> bool:
    """Torch's own error of accelerators, Python's, or torch's allocator of main memory."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and CPU_ALLOCATOR in str(error)
