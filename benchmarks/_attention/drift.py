"""Free rollouts of the embedded model with each memory: adherence to the prompt, and drift.

No history is given: each memory holds its own rollout, and all start from the same noise. The size
is 96x64, with the demo's steps and guidance. "Right" is the share of the world's attributes that
the oracle reads as the prompt names them. Early means latent frames 8 to 40, late the last tenth.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from ...attention.cache.policy import CachePolicy, FullHistory, WindowSink
from ...attention.sparse.settings import SparseCross, SparseSelf, Sparsity
from ...attention.storage.dense import DENSE, Storage
from ...attention.storage.packed import Packed
from ...attention.storage.quantize import INT8
from ...attention.temp_cache.policy import REDUNDANT, TempCache
from ...model.preset import DEMO
from ...training.evaluation.kit import Kit, Recipe
from ...training.evaluation.measures import drift

BALANCED = TempCache(48, sink_frames=3, reach_frames=64, eviction=REDUNDANT)
"""The node's preset of that name, applied to the demo's window."""
SPARSE = Sparsity(SparseSelf(min_keys=0), SparseCross(from_tokens=0))


@dataclass(frozen=True, slots=True)
class Memory:
    """How the history is kept and stored, and sparse attention over it."""

    policy: CachePolicy
    storage: Storage = DENSE
    sparsity: Sparsity = Sparsity()


MEMORIES = {
    "dense": Memory(FullHistory()),
    "window": Memory(WindowSink(DEMO.window_frames)),
    "window of 48, sink of 3": Memory(WindowSink(BALANCED.limit, BALANCED.sink_frames)),
    "TempCache": Memory(BALANCED),
    "TempCache, int8": Memory(BALANCED, Packed(INT8)),
    "all": Memory(BALANCED, DENSE, SPARSE),
}


def measure_rollouts(kit: Kit, seed: int, length: int) -> dict[str, float]:
    """Return figures of every memory's rollout of `length` latent frames.

    The figures are right readings, their loss from early to late, the growth of the latents'
    spread, and right readings minus dense attention's.
    """
    results: dict[str, float] = {}
    for name, memory in MEMORIES.items():
        recipe = Recipe(length=length, cache=memory.policy)
        recipe = replace(recipe, storage=memory.storage, sparsity=memory.sparsity)
        figures = drift(kit, seed, recipe)
        early, late = figures["right early"], figures["right late"]
        results[f"right late: {name}"] = late
        results[f"drift: {name}"] = early - late
        results[f"spread: {name}"] = figures["std late"] / figures["std early"] - 1
        results[f"adherence: {name}"] = (early + late) / 2 - results.get("right: dense", 0.0)
        if name == "dense":
            results["right: dense"] = results.pop("adherence: dense")
    return results
