"""Recognises errors that mean that memory ran out, on any device, and says so in a sentence."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from ...errors import OutOfMemory

PHRASES = (
    "DefaultCPUAllocator",
    "out of memory",  # Metal, and calls of CUDA that torch's allocator does not make
    "ALLOC_FAILED",  # cuBLAS and cuDNN
    "not enough GPU video memory",  # DirectML
    "std::bad_alloc",
    "bad allocation",  # the same, on Windows
)
"""In the messages of failures that have no exception type of their own."""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether `error` comes from an accelerator, from Python or from torch's CPU allocator."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(part in str(error) for part in PHRASES)


@contextmanager
def explain_lack(where: str, advice: str) -> Iterator[None]:
    """Raise OutOfMemory where main memory runs out; `where` and `advice` are parts of its sentence.

    The error of an accelerator stays as it is: a host knows it, and unloads its models then.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if isinstance(error, torch.OutOfMemoryError) or not is_out_of_memory(error):
            raise
        raise OutOfMemory(
            f"Memory ran out {where}; everything before is kept: free memory, or {advice}; then "
            "run again."
        ) from error
