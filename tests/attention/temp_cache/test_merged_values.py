"""Merged values are means by mass, however heavy an entry is and however it is stored.

Storage in few bits cannot hold a thousandth of a difference; there the mean covers about the newest
keys only.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from itertools import product
from typing import Any

import pytest
import torch
from torch import Tensor

from longtake.attention.ann.nearest import Exact
from longtake.attention.scatter import scatter_add_rows
from longtake.attention.storage.dense import DENSE, Storage
from longtake.attention.storage.packed import Packed
from longtake.attention.storage.quantize import FLOAT8, INT4, INT8
from longtake.attention.temp_cache.cache import MergedCache
from longtake.attention.temp_cache.policy import TempCache
from longtake.tests.support.attention.temp_caches import DIM, HEADS, SHAPE, TOKENS, frame_kv
from longtake.tests.support.tiny_model import randn

STORED: dict[str, tuple[torch.dtype, Storage]] = {
    "float32": (torch.float32, DENSE),
    "float16": (torch.float16, DENSE),
    "bfloat16": (torch.bfloat16, DENSE),
    "fp8": (torch.float32, Packed(FLOAT8)),
    "int8": (torch.float32, Packed(INT8)),
    "int4": (torch.bfloat16, Packed(INT4)),
}
HEAVY = 1000
NEWEST = {"float32": 4096, "float16": 45, "bfloat16": 16, "fp8": 4, "int8": 16, "int4": 4}
"""Keys that a mean is over about, as merge.py and docs/notes/attention.md have it."""


def opened(stored: str, **changes: Any) -> MergedCache:
    """An empty cache whose entries count as all their keys."""
    dtype, storage = STORED[stored]
    shape = dataclasses.replace(SHAPE, layers=1, dtype=dtype, **changes)
    return MergedCache(shape, TempCache(2, 0.9), Exact(), storage=storage)


def merge(cache: MergedCache, values: Tensor) -> None:
    """Commit the same keys with each of `values` (k, s, n, d)."""
    dtype, keys = cache.shape.dtype, frame_kv(0)[0]
    for one in values:
        cache.commit([(keys.to(dtype), one.unsqueeze(0).to(dtype))])


def two_values() -> tuple[Tensor, Tensor]:
    """Two values (s, n, d) that have nothing in common."""
    return randn(TOKENS, HEADS, DIM, seed=71), randn(TOKENS, HEADS, DIM, seed=72)


def error(cache: MergedCache, mean: Tensor) -> float:
    """The largest error of the stored values, relative to the difference of the two values."""
    one, other = two_values()
    off = cache.entries(0).values[0, :, :TOKENS].double() - mean.double().transpose(0, 1)
    return float((off.norm(dim=-1) / (one - other).double().norm(dim=-1).T).max())


@pytest.mark.some_cases(3)
@pytest.mark.each_value
@pytest.mark.parametrize("stored", STORED)
def test_the_value_is_the_mean_of_two_in_any_order(stored: str) -> None:
    """A quarter of the keys have one of the values."""
    cache, (one, other) = opened(stored), two_values()
    first = randn(300, seed=5).argsort() % 4 == 0
    merge(cache, torch.where(first.view(-1, 1, 1, 1), one, other))
    spread = math.sqrt(3) / 4 / math.sqrt(2 * NEWEST[stored])
    assert error(cache, one / 4 + 3 * other / 4) <= (1e-5 if stored == "float32" else 3 * spread)


@pytest.mark.parametrize("stored", STORED)
def test_at_a_mass_of_a_thousand_it_still_takes_what_comes(stored: str) -> None:
    """In float32 the mean is by mass, exactly; otherwise it soon follows the newest values."""
    cache, (one, other) = opened(stored), two_values()
    merge(cache, one.unsqueeze(0))
    cache.entries(0).mass[..., :TOKENS] = HEAVY
    merge(cache, other.expand(150, -1, -1, -1))
    assert (cache.entries(0).mass[..., :TOKENS] == HEAVY + 150).all()
    if stored == "float32":
        assert error(cache, (HEAVY * one + 150 * other) / (HEAVY + 150)) <= 1e-5
    else:
        assert error(cache, other) <= 1.5 / math.sqrt(NEWEST[stored])


@pytest.mark.parametrize("stored", STORED)
def test_many_keys_of_one_frame_in_one_entry_are_averaged_and_no_more(stored: str) -> None:
    """A frame whose tokens all merge into one entry never overshoots."""
    cache = opened(stored, rows=20, columns=20)
    keys = randn(1, 1, HEADS, DIM, seed=1).expand(1, 400, -1, -1).clone()
    keys[:, ::2] *= -1  # two directions, whose mean is not one of them
    sums, low, high = torch.zeros(HEADS, DIM), torch.tensor(math.inf), torch.tensor(-math.inf)
    for frame in range(4):
        values = randn(1, 400, HEADS, DIM, seed=50 + frame)
        cache.commit([(keys.to(cache.shape.dtype), values.to(cache.shape.dtype))])
        sums += values[0].sum(0)
        low, high = low.minimum(values.min()), high.maximum(values.max())
    kept = cache.entries(0)
    heavy = kept.mass[0] > 100
    assert heavy.any()
    found = kept.values[0][heavy].float()
    assert low <= found.min() and found.max() <= high
    assert found.abs().mean() < 0.5  # of values of size 1 that cancel


@pytest.fixture
def _threads() -> Iterator[None]:
    """Restore the number of threads afterwards."""
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


def merged_by_fours() -> Tensor:
    """Values after a frame whose keys occur four times, 200 of width 128 in each of two heads."""
    shape = dataclasses.replace(SHAPE, layers=1, head_dim=128, rows=10, columns=20)
    cache = MergedCache(shape, TempCache(3, 0.9), Exact())
    keys = randn(1, 200, 2, 128, seed=1)
    for frame in range(2):
        again = keys[:, :50].repeat(1, 4, 1, 1) if frame else keys
        cache.commit([(again, randn(1, 200, 2, 128, seed=2 + frame))])
    assert cache.entries(0).mass.max() == 5
    return cache.entries(0).values.clone()


@pytest.mark.usefixtures("_threads")
def test_new_keys_of_one_entry_are_added_in_their_order_by_any_number_of_threads() -> None:
    torch.set_num_threads(1)
    expected = merged_by_fours()
    torch.set_num_threads(4)
    assert all(torch.equal(merged_by_fours(), expected) for _ in range(60))


@pytest.mark.parametrize("size", [(1, 2, 7, 3), (2, 3, 5000, 16)])
@pytest.mark.usefixtures("_threads")
def test_rows_are_added_one_after_another(size: tuple[int, ...]) -> None:
    b, n, count, _ = size
    rows, into = randn(*size, seed=1), randn(b, n, 4, size[3], seed=2)
    slots = randn(b, n, count, seed=3).mul(100).long() % 4
    expected = into.clone()
    for x, y, i in product(range(b), range(n), range(count)):
        expected[x, y, slots[x, y, i]] += rows[x, y, i]
    for threads in (1, 4):
        torch.set_num_threads(threads)
        assert torch.equal(scatter_add_rows(into, slots, rows), expected)
