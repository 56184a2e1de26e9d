"""The cases of the GPU bench, as data: what a shot remembers, and how that is kept and read."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from ...attention.cache.policy import FullHistory, WindowSink
from ...attention.kernels.choice import FLEX, GATHERED, TRITON
from ...attention.sparse.settings import SparseSelf, Sparsity
from ...attention.storage.packed import Packed
from ...attention.storage.placement import InMainMemory
from ...attention.storage.quantize import FLOAT8, INT8
from ...attention.temp_cache.policy import REDUNDANT, TempCache
from ...model.families.presets import FEW_STEP
from ...samplers.guidance.presets import cfg
from .._attention.far_layer import recalling
from .._attention.far_recall import FAR_STORAGE, RECALL_STORAGE, far_rules

CHUNK = FEW_STEP.chunk_frames
WINDOW = 21  # latent frames
LONG, FAR = 63, 201
DENSITY = 0.3
BUDGETS = (12, 16, 24)  # GB of common cards
KEPT_FREE_GB = 1.0  # of a card, for the driver and the desktop
GB = 10**9

MAIN_CASE, LONG_CASE, OFFLOADED_CASE = "window 21", "window 63", "window 63, KV in main memory"
BY_SIZE = LONG_CASE, MAIN_CASE, "window 12"


@dataclass(frozen=True, slots=True)
class GpuCase:
    """A shot's settings that differ from the usual ones, and how many latent frames came before.

    `kernel` is the kernel that the case is about. `budget_gb` limits what the process may take.
    With `compiled` the model's arithmetic is compiled before the first chunk.
    """

    changes: Mapping[str, Any] = field(default_factory=dict)
    history: int = WINDOW
    kernel: str | None = None
    budget_gb: int | None = None
    compiled: bool = False


def _by_blocks(kernel: str) -> GpuCase:
    chosen = SparseSelf(DENSITY, recall_floor=0.0, min_keys=0, kernel=kernel)
    changes = {"cache": WindowSink(LONG), "sparsity": Sparsity(chosen)}
    return GpuCase(changes, LONG, kernel)


CASES: Mapping[str, GpuCase] = {
    "window 12": GpuCase({"cache": WindowSink(12)}, 12),
    MAIN_CASE: GpuCase({"cache": WindowSink(WINDOW)}),
    "window 21, compiled": GpuCase({"cache": WindowSink(WINDOW)}, compiled=True),
    "window 21, CFG": GpuCase({"cache": WindowSink(WINDOW), "guidance": cfg(3.0)}),
    "window 21, KV in fp8": GpuCase(
        {"cache": WindowSink(WINDOW), "storage": Packed(FLOAT8, CHUNK)}
    ),
    "window 21, KV in int8": GpuCase({"cache": WindowSink(WINDOW), "storage": Packed(INT8, CHUNK)}),
    "window 21, KV in main memory": GpuCase(
        {"cache": WindowSink(WINDOW), "placement": InMainMemory()}
    ),
    "TempCache 21": GpuCase({"cache": TempCache(WINDOW, sink_frames=3, eviction=REDUNDANT)}),
    LONG_CASE: GpuCase({"cache": WindowSink(LONG)}, LONG),
    OFFLOADED_CASE: GpuCase({"cache": WindowSink(LONG), "placement": InMainMemory()}, LONG),
    "window 63, 30 % by gathering": _by_blocks(GATHERED),
    "window 63, 30 % by FlexAttention": _by_blocks(FLEX),
    "window 63, 30 % by Triton": _by_blocks(TRITON),
    "201 frames, far ones read in two steps": GpuCase(
        {"cache": FullHistory(), "storage": FAR_STORAGE, "memory": far_rules(WINDOW, 0.25)}, FAR
    ),
    "window 21, 9 of 201 recalled": GpuCase(
        {"cache": recalling(FAR), "storage": RECALL_STORAGE}, FAR
    ),
}
"""Each is timed on the whole GPU; `budget_cases` come after them."""


def budget_cases(needed_bytes: Callable[[GpuCase], int]) -> dict[str, GpuCase]:
    """For each card the longest window that its memory holds, and the long one in main memory.

    `needed_bytes` is what a case takes on the device, weights too. What does not fit is left out.
    """
    chosen: dict[str, GpuCase] = {}
    for budget in BUDGETS:
        fitting = [
            name for name in (*BY_SIZE, OFFLOADED_CASE)
            if needed_bytes(CASES[name]) <= (budget - KEPT_FREE_GB) * GB
        ]  # fmt: skip
        windows = [name for name in fitting if name in BY_SIZE]
        for name in [*windows[:1], *(name for name in fitting if name == OFFLOADED_CASE)]:
            chosen[f"{budget} GB: {name}"] = replace(CASES[name], budget_gb=budget)
    return dict(sorted(chosen.items()))
