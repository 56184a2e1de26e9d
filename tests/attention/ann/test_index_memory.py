"""Indexes allocate device memory once, not at every search."""

from __future__ import annotations

from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from longtake.attention.ann.lsh import RandomProjection


class FromMainMemory(TorchDispatchMode):
    """Counts copies from main memory to a device."""

    count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        copied = func is torch.ops.aten._to_copy.default and args[0].device.type == "cpu"
        self.count += copied and (kwargs or {}).get("device") is not None
        return func(*args, **(kwargs or {}))


def test_the_planes_of_hashing_are_brought_to_a_device_once() -> None:
    buckets, vectors = RandomProjection(2, 12), torch.empty(1, 2, 5, 12, device="meta")
    with FromMainMemory() as seen:
        for _ in range(3):
            buckets.assign(0, vectors)
            buckets.probes(0, vectors, 4)
    assert seen.count == 1
