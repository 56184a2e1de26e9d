"""Open the index that finds nearest keys, by name.

No node offers an index: `exact` is as fast or faster on every processor measured, except `int8`
where a processor multiplies 8-bit codes (`longtake bench attention_index`). The others serve the
ablation of merging.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from torch import Tensor

from ..kernels.choice import AUTO
from ..storage.shape import CacheShape
from .buckets import BucketedNearest, BucketIndex, Buckets, bucketed_nearest
from .faiss_index import Faiss, faiss_unavailable_reason
from .int8 import Int8
from .kmeans import OnlineKMeans
from .lsh import RandomProjection
from .nearest import CodedKeys, Exact, Index, Nearest

EXACT = "exact"
PROBES = 4
LSH_BITS, CENTRES = 6, 32
TRITON = "triton"
MAKERS: Mapping[str, Callable[[CacheShape, BucketedNearest], Index]] = {
    EXACT: lambda shape, match: Exact(),
    "int8": lambda shape, match: Int8(shape.head_dim),
    "lsh": lambda shape, match: BucketIndex(open_buckets("lsh", shape), PROBES, match),
    "k-means": lambda shape, match: BucketIndex(open_buckets("k-means", shape), PROBES, match),
    "faiss": lambda shape, match: Faiss(),
}
BY_BUCKETS = ("lsh", "k-means")
"""Indexes that search buckets, through a kernel that can be chosen."""


def open_index(name: str, shape: CacheShape, kernel: str = AUTO) -> Index:
    """A new index; `kernel` names the kernel that searches buckets."""
    return MAKERS[name](shape, bucket_match(kernel if name in BY_BUCKETS else AUTO))


def index_unavailable_reason(name: str) -> str | None:
    """Why an index cannot be used here, or None."""
    return faiss_unavailable_reason() if name == "faiss" else None


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
