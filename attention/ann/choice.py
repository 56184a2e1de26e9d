"""Choose the index that finds nearest keys, by name or `auto`, and give the reason.

`auto` depends on size and device and follows measurements (`longtake bench attention_index`). On
kinds of devices without a committed result it compares all pairs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from ..storage.shape import CacheShape
from .buckets import BucketedNearest, BucketIndex, Buckets, bucketed_nearest
from .faiss_index import Faiss, faiss_unavailable_reason
from .int8 import Int8
from .kmeans import OnlineKMeans
from .lsh import RandomProjection
from .nearest import CodedKeys, Exact, Index, Nearest

AUTO, EXACT = "auto", "exact"
PROBES = 4
LSH_BITS, CENTRES, FAISS_LISTS = 6, 32, 64
TRITON = "triton"
MAKERS: Mapping[str, Callable[[CacheShape, BucketedNearest], Index]] = {
    EXACT: lambda shape, match: Exact(),
    "int8": lambda shape, match: Int8(shape.head_dim),
    "lsh": lambda shape, match: BucketIndex(open_buckets("lsh", shape), PROBES, match),
    "k-means": lambda shape, match: BucketIndex(open_buckets("k-means", shape), PROBES, match),
    "faiss": lambda shape, match: Faiss(),
    "faiss ivf": lambda shape, match: Faiss(FAISS_LISTS),
}
NAMES = (AUTO, *MAKERS)
BY_BUCKETS = ("lsh", "k-means")
"""Indexes that search buckets, through a kernel that can be chosen."""
MEASURED: Mapping[str, tuple[tuple[int, str], ...]] = {"cpu": ((0, EXACT), (32_768, "int8"))}
"""For each kind of device with a committed result: pairs (least cached keys a head, index).

A listed index is faster than comparing all pairs, at the bound of the interval in
`benchmarks/results`, and misses at most one in a hundred nearest keys.
"""


def open_index(name: str, shape: CacheShape, kernel: str = AUTO) -> Index:
    """A new index; `kernel` names the kernel that searches buckets."""
    return MAKERS[name](shape, bucket_match(kernel if name in BY_BUCKETS else AUTO))


def choose_index(name: str, keys: int, device: torch.device) -> tuple[str, str]:
    """The index that `name` stands for at `keys` cached keys a head, and the reason."""
    if name != AUTO:
        return name, "chosen by name"
    measured = MEASURED.get(device.type)
    if measured is None:
        return EXACT, f"no committed result shows another index to be faster on {device.type}"
    _, index = max(row for row in measured if row[0] <= keys)
    return index, f"at {keys:,} keys a head, as measured on {device.type}"


def index_unavailable_reason(name: str) -> str | None:
    """Why an index cannot be used here, or None."""
    return faiss_unavailable_reason() if name.startswith("faiss") else None


def bucket_match(kernel: str) -> BucketedNearest:
    """The function that searches buckets: Triton's kernel if named, else stock torch."""
    return nearest_by_triton if kernel == TRITON else bucketed_nearest


def nearest_by_triton(new: Tensor, probes: Tensor, cached: CodedKeys) -> Nearest:
    """Fast path of `bucketed_nearest` by Triton's kernel; imports Triton on first use.

    Meta tensors take stock operations, since a kernel cannot be launched on them.
    """
    if new.is_meta:
        return bucketed_nearest(new, probes, cached)
    from . import triton_nearest

    return triton_nearest.bucketed_nearest(new, probes, cached)


def open_buckets(name: str, shape: CacheShape) -> Buckets:
    """Buckets by name: `lsh` or `k-means`."""
    if name == "lsh":
        return RandomProjection(shape.heads, shape.head_dim, LSH_BITS)
    return OnlineKMeans(CENTRES)
