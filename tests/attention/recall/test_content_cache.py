"""Past frames recalled by content, against loops over every query and key."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from longtake.attention.history import open_cache
from longtake.attention.history import planned_offloaded as planned
from longtake.attention.recall.content import (
    SAMPLED_QUERIES,
    ContentCache,
    planned_offloaded,
)
from longtake.attention.recall.window import RecallWindow
from longtake.attention.storage.dense import DENSE
from longtake.attention.storage.packed import Packed
from longtake.attention.storage.quantize import AS_COMPUTED
from longtake.tests.support.attention.caches import SHAPE, TOKENS, chunk_kv, frame_kv
from longtake.tests.support.attention.snapshots import assert_same_histories, through_json
from longtake.tests.support.tiny_model import randn

POLICY = RecallWindow(6, 1, 2, by="content")


def commit(cache: ContentCache, first: int, count: int = 3) -> list[Tensor]:
    """Pass and commit frames; returns the un-rotated queries (1, s, n, d) of every layer."""
    attention = cache.attention_of_commit((count,) * count)
    queries = [randn(1, count * TOKENS, 2, 12, seed=900 + 2 * first + i) for i in range(2)]
    kv = chunk_kv(range(first, first + count))
    for layer, q in enumerate(queries):
        attention(layer, q, *kv[layer])
    cache.commit(kv)
    return queries


def by_loops(queries: list[Tensor], past: list[int]) -> list[float]:
    """The share of attention of every query, head and layer that each frame's mean key gets."""
    totals = [0.0] * len(past)
    for layer, of_layer in enumerate(queries):
        means = [frame_kv(frame)[layer][0][0].mean(0) for frame in past]  # (n, d)
        for head in range(SHAPE.heads):
            for q in of_layer[0, :, head]:
                logits = [float(q @ mean[head]) / math.sqrt(SHAPE.head_dim) for mean in means]
                total = sum(math.exp(logit) for logit in logits)
                for i, logit in enumerate(logits):
                    totals[i] += math.exp(logit) / total
    count = sum(len(q[0]) for q in queries) * SHAPE.heads
    return [total / count for total in totals]


@pytest.mark.parametrize("storage", [DENSE, Packed(AS_COMPUTED, 1)])
def test_scores_are_the_newest_chunks_attention_to_mean_keys(storage: object) -> None:
    cache = open_cache(SHAPE, POLICY, storage, 24, "cpu")  # type: ignore[arg-type]
    assert isinstance(cache, ContentCache)
    for first in range(0, 15, 3):
        queries = commit(cache, first)
        cache.recall(sorted(cache.archive.frames)[:2])
    past = sorted(cache.archive.frames)
    assert past == [*range(1, 12)]
    assert 3 * TOKENS <= SAMPLED_QUERIES  # so that all queries count
    assert cache.scores(past) == pytest.approx(by_loops(queries, past), rel=1e-4)
    assert cache.offloaded_bytes == planned_offloaded(SHAPE, POLICY, 24, storage)
    assert cache.offloaded_bytes == planned(SHAPE, POLICY, storage, 24)


def test_a_snapshot_continues_with_the_same_scores() -> None:
    first, second = (ContentCache(SHAPE, POLICY) for _ in range(2))
    for start in range(0, 12, 3):
        commit(first, start)
    first.recall([2, 3])
    second.restore(through_json(first.snapshot()))
    assert first.scores([1, 2, 5]) == second.scores([1, 2, 5])
    for cache in (first, second):
        commit(cache, 12)
        cache.recall([4, 5])
    assert first.scores([1, 2, 5]) == second.scores([1, 2, 5])
    assert_same_histories(first, second)


def test_summaries_follow_an_archive_that_forgets_and_grows() -> None:
    limited = ContentCache(SHAPE, RecallWindow(5, 0, 2, by="content", archive_frames=3))
    for start in range(0, 15, 3):
        queries = commit(limited, start)
    past = sorted(limited.archive.frames)
    assert past == [9, 10, 11]
    assert limited.scores(past) == pytest.approx(by_loops(queries, past), rel=1e-4)
    growing = ContentCache(SHAPE, RecallWindow(5, 0, 2, by="content"), 6)
    for start in range(0, 24, 3):
        queries = commit(growing, start)
    past = sorted(growing.archive.frames)
    assert len(past) == 21 and torch.tensor(growing.scores(past)).sum() == pytest.approx(1)
    assert growing.scores(past) == pytest.approx(by_loops(queries, past), rel=1e-4)
