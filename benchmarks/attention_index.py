"""`longtake bench attention_index`: the fastest index for a commit's nearest cached keys.

Each index searches the cached keys of one layer for the new keys of one latent frame. There are 64
new keys in 4 heads of 48, as in the embedded model, or in 2 heads of 128, Wan's width. Half of the
new keys are close to a cached key; "found" is the share of these whose nearest key the index
returns. The time includes coding the new keys, but not the cached keys, which were coded when they
arrived. Times are processor times.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from ..attention.ann.choice import (
    EXACT,
    MAKERS,
    index_unavailable_reason,
    open_index,
)
from ..attention.ann.nearest import CodedKeys, Index, Nearest
from ..attention.storage.shape import CacheShape
from ._shared.paired import median_interval, paired_seconds, ratio_interval
from ._shared.report import Results

DEMO, WIDE = CacheShape(1, 1, 4, 48, 8, 8, 1), CacheShape(1, 1, 2, 128, 8, 8, 1)
NEAR = 0.3  # distance of a near key from its cached key, in standard deviations


@dataclass(frozen=True, slots=True)
class IndexPlan:
    """Cache shapes with the number of cached keys per head, and the number of timed rounds."""

    sizes: tuple[tuple[CacheShape, int], ...] = (
        (DEMO, 1_344), (DEMO, 8_192), (WIDE, 8_192), (WIDE, 32_768), (WIDE, 131_072),
    )  # fmt: skip
    rounds: int = 12
    budget_s: float = 40.0


def main(json_path: Path | None) -> None:
    """Run the suite, show the results, and save them to `json_path` if given."""
    results = measure(IndexPlan())
    results.publish(json_path)


def measure(plan: IndexPlan) -> Results:
    """Time each index that is installed, and count the nearest keys that it returns."""
    results, names = (
        Results("attention_index"),
        [n for n in MAKERS if index_unavailable_reason(n) is None],
    )
    for shape, count in plan.sizes:
        at, (new, cached) = label(shape, count), some_keys(shape, count)
        searches = {name: search(open_index(name, shape), new, cached) for name in names}
        true = searches[EXACT]().number
        shares = {name: share_found(find().number, true) for name, find in searches.items()}
        seconds = paired_seconds(
            {name: prepare(find) for name, find in searches.items()},
            rounds=plan.rounds, budget_s=plan.budget_s, clock=time.process_time,
        )  # fmt: skip
        for name, samples in seconds.items():
            results.samples[f"{name}, {at}"] = samples
            results.figures[f"{name}, {at}"] = median_interval(samples)
            results.figures[f"exact / {name}, {at}"] = ratio_interval(seconds[EXACT], samples)
            results.figures[f"found: {name}, {at}"] = median_interval([shares[name]])
    return results


def share_found(number: Tensor, true: Tensor) -> float:
    """Return the share of right answers in the first half of new keys, which are near a
    cached key.
    """
    half = true.shape[2] // 2
    return float((number == true)[:, :, :half].float().mean())


def some_keys(shape: CacheShape, count: int) -> tuple[Tensor, Tensor]:
    """Return new keys (b, n, s, d), and `count` cached keys (b, n, t, d)."""
    generator = torch.Generator().manual_seed(count)
    size = shape.batch, shape.heads
    cached = torch.randn(*size, count, shape.head_dim, generator=generator)
    new = torch.randn(*size, shape.frame_tokens, shape.head_dim, generator=generator)
    half = shape.frame_tokens // 2
    new[:, :, :half] = cached[:, :, :: count // half][:, :, :half] + NEAR * new[:, :, :half]
    return new, cached


def search(index: Index, new: Tensor, keys: Tensor) -> Callable[[], Nearest]:
    """Return a function that finds the nearest keys."""
    codes = index.encode(0, keys)
    cached = CodedKeys(keys, codes, torch.ones(keys.shape[:3], dtype=torch.bool))
    return lambda: index.nearest(0, new, index.encode(0, new), cached)


def prepare(find: Callable[[], Nearest]) -> Callable[[], Callable[[], object]]:
    return lambda: find


def label(shape: CacheShape, count: int) -> str:
    return f"{count} keys of {shape.head_dim}"
