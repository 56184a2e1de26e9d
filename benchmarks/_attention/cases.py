"""The cases of the attention speed bench, as data: caches, and sparse attention over them.

The ablation is the one in FAST-AR's table (arXiv 2602.01801): TempCache, AnnCA and AnnSA, alone and
together, by random projection (LSH) and quantised. The baselines are dense attention to everything,
and the same with a prompt padded to Wan's length. For TempCache, quantised means that the keys
matched with new keys have 8 bits. For AnnSA, quantised means the direction of keys (k-means),
because its blocks are sorted by buckets, and codes of 8 bits a dimension have no buckets. AnnCA
prunes by LSH only.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from ...attention.ann.choice import EXACT
from ...attention.cache.policy import CachePolicy, WindowSink
from ...attention.history import planned_bytes
from ...attention.sparse.settings import SparseCross, SparseSelf, Sparsity
from ...attention.storage.dense import DENSE, Storage
from ...attention.storage.packed import Packed
from ...attention.storage.quantize import INT8
from ...attention.storage.shape import CacheShape
from ...attention.temp_cache.policy import LEAST_ATTENDED, REDUNDANT, TempCache
from ...model.preset import DEMO

SINK = 3  # latent frames
WINDOW = WindowSink(DEMO.window_frames + SINK, SINK)
FULL, IN_WINDOW = "full", "window"
INDEXES = {EXACT: EXACT, "int8": "int8", "LSH": "lsh", "k-means": "k-means"}
DENSE_CASE, WINDOW_CASE, TEMP, AUTO, BOTH, DENSE_LONG = (
    "dense", "window + sink", "TempCache", "auto", "all", "dense, long prompt",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class SpeedCase:
    """A cache by its name, sparse attention over it, and whether the prompt is padded to Wan's
    length.

    Several cases may share one cache.
    """

    cache: str
    sparsity: Sparsity = Sparsity()
    long_prompt: bool = False

    @property
    def baseline(self) -> str:
        """The case with dense attention to the same keys."""
        return DENSE_LONG if self.long_prompt else DENSE_CASE


def _by_blocks(order: str) -> SparseSelf:
    """Return settings that are sparse wherever the paper is, even with short histories and poor
    blocks.
    """
    return SparseSelf(density=0.15, recall_floor=0.0, min_keys=0, order=order)


PADDING, PRUNED = SparseCross(), SparseCross(prune=True)
MAIN = {
    DENSE_CASE: SpeedCase(FULL),
    AUTO: SpeedCase(FULL, Sparsity(SparseSelf())),
    WINDOW_CASE: SpeedCase(IN_WINDOW),
    "window, int8": SpeedCase("window int8"),
    TEMP: SpeedCase("kept"),
    "TempCache, int8": SpeedCase("kept int8"),
    BOTH: SpeedCase("kept", Sparsity(SparseSelf(), PADDING)),
}
"""The cases timed at every history: the baselines, and the nodes' default settings."""
ABLATION = {
    DENSE_LONG: SpeedCase(FULL, long_prompt=True),
    **{f"ablation: TempCache by {name}": SpeedCase(f"merged {name}", long_prompt=True)
       for name in INDEXES},
    "ablation: AnnCA, padding": SpeedCase(FULL, Sparsity(None, PADDING), long_prompt=True),
    "ablation: AnnCA by LSH": SpeedCase(FULL, Sparsity(None, PRUNED), long_prompt=True),
    "ablation: AnnSA by time": SpeedCase(FULL, Sparsity(_by_blocks("time")), long_prompt=True),
    "ablation: AnnSA by LSH": SpeedCase(FULL, Sparsity(_by_blocks("lsh")), long_prompt=True),
    "ablation: AnnSA by k-means": SpeedCase(
        FULL, Sparsity(_by_blocks("k-means")), long_prompt=True
    ),
    "ablation: all by LSH": SpeedCase(
        "merged LSH", Sparsity(_by_blocks("lsh"), PRUNED), long_prompt=True
    ),
    "ablation: all by int8": SpeedCase(
        "merged int8", Sparsity(_by_blocks("time"), PADDING), long_prompt=True
    ),
    "ablation: all by k-means": SpeedCase(
        "merged k-means", Sparsity(_by_blocks("k-means"), PRUNED), long_prompt=True
    ),
    "ablation: all by default": SpeedCase(
        "kept", Sparsity(SparseSelf(), PADDING), long_prompt=True
    ),
}  # fmt: skip
"""The ablation, left out by default at long histories, where it shows nothing new."""
CASES: Mapping[str, SpeedCase] = {**MAIN, **ABLATION}


def bounded_caches(shape: CacheShape) -> dict[str, tuple[CachePolicy, Storage]]:
    """Return policy and storage of every bounded cache; none takes more bytes than the window."""

    def entries(eviction: str, index: str) -> TempCache:
        return fit_window_bytes(
            shape, TempCache(SINK + 1, sink_frames=SINK, max_mass=1, eviction=eviction,
                             index=index)
        )  # fmt: skip

    unmerged = entries(REDUNDANT, EXACT)
    return {
        IN_WINDOW: (WINDOW, DENSE),
        "window int8": (WINDOW, Packed(INT8, shape.chunk_frames)),
        "kept": (unmerged, DENSE),
        "kept int8": (unmerged, Packed(INT8)),
        **{
            f"merged {name}": (entries(LEAST_ATTENDED, index), DENSE)
            for name, index in INDEXES.items()
        },
    }


def fit_window_bytes(shape: CacheShape, policy: TempCache) -> TempCache:
    """Return `policy` with the most entries that fit into the window's bytes."""
    most, frames = planned_bytes(shape, WINDOW, DENSE, None), WINDOW.window_frames
    while planned_bytes(shape, replace(policy, entry_frames=frames), DENSE, None) > most:
        frames -= 1
    return replace(policy, entry_frames=frames)
