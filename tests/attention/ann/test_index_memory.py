"""Indexes allocate device memory once, not at every search."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from longtake.attention.ann import faiss_index
from longtake.attention.ann.faiss_index import GPU_SCRATCH_BYTES, Faiss
from longtake.attention.ann.lsh import RandomProjection


class Resources:
    """A stand-in for FAISS's GPU resources."""

    made: list[Resources] = []

    def __init__(self) -> None:
        self.scratch = 0
        self.made.append(self)

    def setTempMemory(self, count: int) -> None:  # noqa: N802
        self.scratch = count


class FaissOnGpu:
    """The parts of the FAISS module that move an index to a GPU."""

    StandardGpuResources = Resources

    @staticmethod
    def index_cpu_to_gpu(resources: Resources, device: int, index: str) -> Any:
        return resources, device, index


def test_faiss_has_its_scratch_on_a_gpu_once_however_often_it_searches(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(faiss_index.importlib, "import_module", lambda _: FaissOnGpu)
    monkeypatch.setattr(Resources, "made", [])
    index = Faiss()
    gpu = torch.device("cuda", 1)
    placed = [index.move_to(name, gpu) for name in ("one", "two")]
    assert placed == [(*Resources.made, 1, "one"), (*Resources.made, 1, "two")]
    assert [one.scratch for one in Resources.made] == [GPU_SCRATCH_BYTES]
    assert index.move_to("three", torch.device("cpu")) == "three"


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
