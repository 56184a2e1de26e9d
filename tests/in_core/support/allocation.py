"""The allocator's peak of a streaming VAE half, and how near the plan must be."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

WITHIN = 0.05  # of the plan


def allocated(coder: Any, x: Tensor) -> int:
    """The allocator's peak while a stream is fed copies of the same."""
    from longtake.benchmarks._shared.allocator import allocator_peak

    def run() -> None:
        for _ in range(3):
            coder.feed(x.clone())

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return allocator_peak(run)
    finally:
        torch.set_num_threads(threads)
