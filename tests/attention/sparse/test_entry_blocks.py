"""Blocks of a TempCache's entries, whose slots are in no order of time."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from longtake.attention.ann.nearest import Exact
from longtake.attention.sparse.block_layout import split_tokens
from longtake.attention.sparse.key_codes import entry_numbers
from longtake.attention.sparse.self_attention import SparseHistory
from longtake.attention.sparse.settings import SparseSelf, Sparsity
from longtake.attention.sparse.stats import SparseStats
from longtake.attention.storage.dense import DENSE, Storage
from longtake.attention.storage.packed import Packed
from longtake.attention.storage.quantize import INT8
from longtake.attention.storage.shape import CacheShape
from longtake.attention.temp_cache.cache import MergedCache
from longtake.attention.temp_cache.policy import LEAST_ATTENDED, REDUNDANT, TempCache
from longtake.samplers.history.plan import cache_plans
from longtake.samplers.history.sparse import SparseCaches
from longtake.tests.support.tiny_model import TINY, randn, settings

SHAPE = CacheShape(layers=1, batch=1, heads=4, head_dim=24, rows=6, columns=12, chunk_frames=3)
TOKENS, SINK, RECENT, LENGTH = SHAPE.frame_tokens, 1, 3, 60


def drifting_tokens(frame: int, seed: int) -> Tensor:
    """Tokens (1, s, n, d) of a picture that moves sideways over an endless landscape.

    Neighbours in the picture and in time are alike, and what left the picture differs.
    """
    columns = torch.arange(SHAPE.columns) + 0.4 * frame
    rows = torch.arange(SHAPE.rows)
    place = torch.stack(torch.meshgrid(rows.float(), columns, indexing="ij"), -1).flatten(0, 1)
    width = SHAPE.heads * SHAPE.head_dim
    waves = 0.5 * randn(2, width, seed=seed)
    shifts = 6 * randn(width, seed=seed + 1)
    tokens: Tensor = (place @ waves + shifts).cos() + 0.1 * randn(TOKENS, width, seed=seed + frame)
    return tokens.unflatten(1, (SHAPE.heads, SHAPE.head_dim))[None]


def fill_cache(policy: TempCache, frames: int = LENGTH) -> MergedCache:
    """A cache over a shot of that many latent frames."""
    cache = MergedCache(SHAPE, policy, Exact())
    for frame in range(frames):
        cache.commit([(drifting_tokens(frame, 100), drifting_tokens(frame, 900))])
    return cache


def sampled(cache: MergedCache, *, sorted_by_time: bool) -> float:
    """The share of the next chunk's attention that its chosen blocks hold at density 0.3."""
    numbers = entry_numbers(cache) if sorted_by_time else None
    chosen = SparseSelf(0.3, 0.0, (), 0.0, min_keys=0)
    history = SparseHistory(
        chosen, SparseStats(), sink_frames=SINK, min_keys=0, token_numbers=numbers
    )
    new = torch.cat([drifting_tokens(LENGTH + i, 100) for i in range(3)], 1)
    history.over(cache.attention(3), [1.0] * 3)(0, 3 * new, new, new)
    assert history.stats.recall is not None
    return history.stats.recall


@pytest.mark.parametrize("entries", [8, 12, 16])
def test_blocks_of_neighbours_with_the_newest_frames_beside_hold_more_attention(
    entries: int,
) -> None:
    cache = fill_cache(
        TempCache(entries, sink_frames=SINK, eviction=REDUNDANT, recent_frames=RECENT)
    )
    assert sampled(cache, sorted_by_time=False) < 0.8
    assert sampled(cache, sorted_by_time=True) > 0.9


def test_entries_are_read_by_time_and_place_and_the_newest_always() -> None:
    cache = fill_cache(TempCache(8, sink_frames=SINK, eviction=REDUNDANT, recent_frames=RECENT))
    cache.retain([frame for frame in cache.kept_frames if frame != LENGTH - 2])
    facts = cache.store.own[0]
    frame, place, mass = (facts[name][0, 0] for name in ("frame", "place", "mass"))
    moments = [
        (int(f), int(p)) if m > 0 else None for f, p, m in zip(frame, place, mass, strict=True)
    ]
    in_use = [moment for moment in moments if moment is not None]
    assert 0 < len(in_use) < len(moments) and in_use != sorted(in_use)
    pinned = {moment for moment in in_use if moment[0] < SINK or moment[0] >= LENGTH - 3}
    numbers = entry_numbers(cache)
    assert numbers is not None
    always, rest = split_tokens(numbers(0), TOKENS, SINK, 3)
    assert [moments[i] for i in always] == sorted(pinned)
    assert [moments[i] for i in rest if moments[i]] == sorted({*in_use} - pinned)
    assert sorted([*always.tolist(), *rest.tolist()]) == list(range(len(numbers(0))))


def test_a_rollouts_sparse_attention_knows_the_time_of_entries_that_all_heads_share() -> None:
    for eviction, knows in ((REDUNDANT, True), (LEAST_ATTENDED, False)):
        sparsity = Sparsity(SparseSelf(0.3, 0.0, (), 0.0, min_keys=0))
        policy = TempCache(5, eviction=eviction)
        plan = settings(length=6, cache=policy, sparsity=sparsity)
        plans = cache_plans(plan, TINY, torch.float32)
        caches = [part.open(6, torch.device("cpu")) for part in plans]
        [history] = SparseCaches(plan, plans, caches)._histories
        assert (history.token_numbers is not None) == knows


@pytest.mark.parametrize("storage", [DENSE, Packed(INT8)])
def test_reading_every_block_of_entries_is_dense_attention(storage: Storage) -> None:
    policy = TempCache(8, sink_frames=SINK, eviction=REDUNDANT, recent_frames=RECENT)
    cache = MergedCache(SHAPE, policy, Exact(), storage=storage)
    for frame in range(30):
        cache.commit([(drifting_tokens(frame, 100), drifting_tokens(frame, 900))])
    cache.retain(cache.kept_frames[:-2])
    everything = SparseSelf(1.0, 0.0, (), 0.0, min_keys=0)
    history = SparseHistory(
        everything, SparseStats(), sink_frames=SINK, min_keys=0, token_numbers=entry_numbers(cache)
    )
    new = torch.cat([drifting_tokens(30 + i, 100) for i in range(3)], 1)
    attention = cache.attention(3)
    torch.testing.assert_close(
        history.over(attention, [1.0] * 3)(0, new, new, new),
        attention(0, new, new, new),
        rtol=1e-4,
        atol=1e-5,
    )
