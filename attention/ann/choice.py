"""Which index finds nearest keys: by name, or by `auto` from size and device, with the reason."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from ..cache_shape import CacheShape
from .buckets import BucketIndex, Buckets
from .faiss_index import Faiss
from .int8 import Int8
from .kmeans import OnlineKMeans
from .lsh import RandomProjection
from .nearest import Exact, Index

AUTO = "auto"
PROBES = 4
LSH_BITS, CENTRES, FAISS_LISTS = 6, 32, 64
MAKERS: Mapping[str, Callable[[CacheShape], Index]] = {
    "exact": lambda shape: Exact(),
    "int8": lambda shape: Int8(shape.head_dim),
    "lsh": lambda shape: BucketIndex(open_buckets("lsh", shape), PROBES),
    "k-means": lambda shape: BucketIndex(open_buckets("k-means", shape), PROBES),
    "faiss": lambda shape: Faiss(),
    "faiss ivf": lambda shape: Faiss(FAISS_LISTS),
}
NAMES = (AUTO, *MAKERS)


def open_index(name: str, shape: CacheShape) -> Index:
    """An index that has learnt nothing."""
    return MAKERS[chosen_index(name)[0]](shape)


def chosen_index(name: str) -> tuple[str, str]:
    """The index that `name` stands for, and why."""
    if name != AUTO:
        return name, "chosen by name"
    return (
        "exact",
        "at the sizes of a merged cache comparing all pairs takes a small part of a commit",
    )


def open_buckets(name: str, shape: CacheShape) -> Buckets:
    """Buckets by name: `lsh` or `k-means`."""
    if name == "lsh":
        return RandomProjection(shape.heads, shape.head_dim, LSH_BITS)
    return OnlineKMeans(CENTRES)
