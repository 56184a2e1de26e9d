"""Recognises errors that mean that memory ran out, on any device, and says so in a sentence."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch

from ...errors import OutOfMemory

# In the messages of failures that have no exception type of their own:
ON_DEVICES = (
    "out of memory",  # Metal, and calls of CUDA that torch's allocator does not make
    "ALLOC_FAILED",  # cuBLAS and cuDNN
    "not enough GPU video memory",  # DirectML
)
IN_MAIN_MEMORY = (
    "DefaultCPUAllocator",
    "std::bad_alloc",
    "bad allocation",  # the same, on Windows
)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether `error` comes from an accelerator, from Python or from torch's CPU allocator."""
    if isinstance(error, MemoryError) or _is_on_device(error):
        return True
    return isinstance(error, RuntimeError) and _has_any(IN_MAIN_MEMORY, error)


def _is_on_device(error: BaseException) -> bool:
    if isinstance(error, torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and _has_any(ON_DEVICES, error)


def _has_any(phrases: Sequence[str], error: BaseException) -> bool:
    return any(phrase in str(error) for phrase in phrases)


class OutOfDeviceMemory(OutOfMemory, torch.OutOfMemoryError):
    """Memory of an accelerator ran out.

    It is torch's own error too, at which a host unloads its models.
    """


@contextmanager
def explain_lack(
    where: str, advice: str, *, keeps: str = "everything before is kept: "
) -> Iterator[None]:
    """Raise OutOfMemory where memory runs out; `where`, `keeps` and `advice` are parts of its
    sentence.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if isinstance(error, OutOfMemory) or not is_out_of_memory(error):
            raise
        kind = OutOfDeviceMemory if _is_on_device(error) else OutOfMemory
        raise kind(
            f"Memory ran out {where}; {keeps}free memory, or {advice}; then run again."
        ) from error
