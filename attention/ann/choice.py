"""Which index finds nearest keys: by name, or by `auto` from size and device, with the reason.

What `auto` is was measured (`longtake bench attention_index`); where no committed result is of a
kind of device, all pairs are compared there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from ..storage.shape import CacheShape
from .buckets import BucketedNearest, BucketIndex, Buckets, bucketed_nearest
from .faiss_index import Faiss, missing_faiss
from .int8 import Int8
from .kmeans import OnlineKMeans
from .lsh import RandomProjection
from .nearest import Coded, Exact, Index, Nearest

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
"""Those that look through buckets, by a kernel that is chosen."""
MEASURED: Mapping[str, tuple[tuple[int, str], ...]] = {"cpu": ((0, EXACT), (32_768, "int8"))}
"""Kinds of devices of which `benchmarks/results` holds a result, and there from so many cached keys
a head on an index that is faster than comparing all pairs, at the interval's bound, and misses no
more than one in a hundred of the nearest keys.
"""


def open_index(name: str, shape: CacheShape, kernel: str = AUTO) -> Index:
    """An index that has learnt nothing; `kernel` names what looks through buckets."""
    return MAKERS[name](shape, bucket_match(kernel if name in BY_BUCKETS else AUTO))


def chosen_index(name: str, keys: int, device: torch.device) -> tuple[str, str]:
    """The index that `name` stands for where a head has so many cached `keys`, and why."""
    if name != AUTO:
        return name, "chosen by name"
    measured = MEASURED.get(device.type)
    if measured is None:
        return EXACT, f"no committed result shows another index to be faster on {device.type}"
    found = max(one for one in measured if one[0] <= keys)
    return found[1], f"at {keys:,} keys a head, as measured on {device.type}"


def missing_index(name: str) -> str | None:
    """Why an index cannot be used here, or None."""
    return missing_faiss() if name.startswith("faiss") else None


def bucket_match(kernel: str) -> BucketedNearest:
    """What finds the nearest key of some buckets: Triton's kernel by its name, else stock
    operations.
    """
    return nearest_by_triton if kernel == TRITON else bucketed_nearest


def nearest_by_triton(new: Tensor, probes: Tensor, cached: Coded) -> Nearest:
    """`bucketed_nearest` by Triton's kernel, whose package is loaded when it is first needed; by
    stock operations in a rehearsal, which has no numbers to launch a kernel on.
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
