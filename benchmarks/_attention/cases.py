"""What the speed bench of attention compares: caches, and what is sparse over them, as data.

The ablation is that of FAST-AR's table (arXiv 2602.01801): TempCache, AnnCA and AnnSA, each alone
and all together, by random projection (LSH) and quantised, against dense attention to everything
and to a prompt padded to Wan's length. What is quantised is, of TempCache, the keys that new ones
are matched with (8 bits), or as of AnnSA their direction (k-means): its blocks are sorted by
buckets, which codes of 8 bits a dimension are none of. AnnCA prunes by LSH only.
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
from ...attention.temp_cache.policy import ALIKE, ATTENDED, TempCache
from ...model.preset import DEMO

SINK = 3  # latent frames
WINDOW = WindowSink(DEMO.window_frames + SINK, SINK)
FULL, IN_WINDOW = "full", "window"
INDEXES = {EXACT: EXACT, "int8": "int8", "LSH": "lsh", "k-means": "k-means"}
DENSE_CASE, WINDOW_CASE, TEMP, AUTO, BOTH, DENSE_LONG = (
    "dense", "window + sink", "TempCache", "auto", "all", "dense, long prompt",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Case:
    """A cache by its name, which cases may share, what is sparse over it, and whether the prompt
    is padded to Wan's length.
    """

    cache: str
    sparsity: Sparsity = Sparsity()
    long_prompt: bool = False

    @property
    def baseline(self) -> str:
        """The case with dense attention to the same."""
        return DENSE_LONG if self.long_prompt else DENSE_CASE


def _by_blocks(order: str) -> SparseSelf:
    """Sparse wherever the paper is, however short the history and poor the blocks."""
    return SparseSelf(density=0.15, recall_floor=0.0, min_keys=0, order=order)


PADDING, PRUNED = SparseCross(), SparseCross(prune=True)
MAIN = {
    DENSE_CASE: Case(FULL),
    AUTO: Case(FULL, Sparsity(SparseSelf())),
    WINDOW_CASE: Case(IN_WINDOW),
    "window, int8": Case("window int8"),
    TEMP: Case("kept"),
    "TempCache, int8": Case("kept int8"),
    BOTH: Case("kept", Sparsity(SparseSelf(), PADDING)),
}
"""What is timed at every history: the baselines, and what the nodes' defaults make."""
ABLATION = {
    DENSE_LONG: Case(FULL, long_prompt=True),
    **{f"ablation: TempCache by {name}": Case(f"merged {name}", long_prompt=True)
       for name in INDEXES},
    "ablation: AnnCA, padding": Case(FULL, Sparsity(None, PADDING), long_prompt=True),
    "ablation: AnnCA by LSH": Case(FULL, Sparsity(None, PRUNED), long_prompt=True),
    "ablation: AnnSA by time": Case(FULL, Sparsity(_by_blocks("time")), long_prompt=True),
    "ablation: AnnSA by LSH": Case(FULL, Sparsity(_by_blocks("lsh")), long_prompt=True),
    "ablation: AnnSA by k-means": Case(FULL, Sparsity(_by_blocks("k-means")), long_prompt=True),
    "ablation: all by LSH": Case(
        "merged LSH", Sparsity(_by_blocks("lsh"), PRUNED), long_prompt=True
    ),
    "ablation: all by int8": Case(
        "merged int8", Sparsity(_by_blocks("time"), PADDING), long_prompt=True
    ),
    "ablation: all by k-means": Case(
        "merged k-means", Sparsity(_by_blocks("k-means"), PRUNED), long_prompt=True
    ),
    "ablation: all by default": Case("kept", Sparsity(SparseSelf(), PADDING), long_prompt=True),
}  # fmt: skip
"""What says no more at a long history than at a short one, unless it is asked for."""
CASES: Mapping[str, Case] = {**MAIN, **ABLATION}


def kept_in(shape: CacheShape) -> dict[str, tuple[CachePolicy, Storage]]:
    """What every cache but the full one keeps, and how: none in more bytes than the window."""

    def entries(eviction: str, index: str) -> TempCache:
        return in_windows_bytes(
            shape, TempCache(SINK + 1, sink_frames=SINK, max_mass=1, eviction=eviction,
                             index=index)
        )  # fmt: skip

    kept = entries(ALIKE, EXACT)
    return {
        IN_WINDOW: (WINDOW, DENSE),
        "window int8": (WINDOW, Packed(INT8, shape.chunk_frames)),
        "kept": (kept, DENSE),
        "kept int8": (kept, Packed(INT8)),
        **{f"merged {name}": (entries(ATTENDED, index), DENSE) for name, index in INDEXES.items()},
    }


def in_windows_bytes(shape: CacheShape, policy: TempCache) -> TempCache:
    """The policy with as many latent frames' worth of entries as take no more bytes than the
    window.
    """
    most, frames = planned_bytes(shape, WINDOW, DENSE, None), WINDOW.window_frames
    while planned_bytes(shape, replace(policy, entry_frames=frames), DENSE, None) > most:
        frames -= 1
    return replace(policy, entry_frames=frames)
