"""Past frames recalled by content, against loops over every region of every layer."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from longtake.attention.history import open_cache
from longtake.attention.history import planned_offloaded as planned
from longtake.attention.recall.content import (
    LEAD,
    NEWEST,
    SHARPNESS,
    SUMMARY_LAYERS,
    ContentCache,
    planned_offloaded,
    summarise,
    summary_layers,
)
from longtake.attention.recall.window import RecallWindow
from longtake.attention.storage.codec import AS_COMPUTED
from longtake.attention.storage.dense import DENSE
from longtake.attention.storage.packed import Packed
from longtake.attention.storage.placement import InMainMemory
from longtake.samplers.history.runs import best_runs
from longtake.tests.support.attention.caches import SHAPE, TOKENS, chunk_kv, frame_kv
from longtake.tests.support.attention.snapshots import assert_same_histories, through_json
from longtake.tests.support.tiny_model import randn

Frames = Callable[[int], list[tuple[Tensor, Tensor]]]

POLICY = RecallWindow(6, 1, 2, by="content")


def commit(cache: ContentCache, first: int, count: int = 3) -> None:
    """Commit latent frames, each with keys and values of its own."""
    cache.commit(chunk_kv(range(first, first + count)))


def cosine(one: int, other: int, kv: Frames = frame_kv) -> float:
    """How much two frames look alike: the mean over layers, branches and tokens."""
    cosines = []
    for (a, _), (b, _) in zip(kv(one), kv(other), strict=True):
        for row in range(len(a)):
            for token in range(TOKENS):
                x, y = a[row, token].flatten().tolist(), b[row, token].flatten().tolist()
                product = sum(i * j for i, j in zip(x, y, strict=True))
                cosines.append(product / math.hypot(*x) / math.hypot(*y))
    return sum(cosines) / len(cosines)


def by_loops(newest: int, past: list[int], recall: int, kv: Frames = frame_kv) -> list[float]:
    """The score of each past frame, from every match in both directions of time."""
    means = {}
    for step in (1, -1):
        for i in range(len(past)):
            ages = [age for age in range(NEWEST) if 0 <= i + step * age < len(past)]
            likeness = [cosine(newest - age, past[i + step * age], kv) for age in ages]
            means[i, step] = sum(likeness) / len(likeness)
    mean = sum(means.values()) / len(means)
    deviation = math.sqrt(sum((value - mean) ** 2 for value in means.values()) / len(means))
    shares = {at: math.exp(SHARPNESS * (value - mean) / deviation) for at, value in means.items()}
    scores = [0.0] * len(past)
    for (i, step), share in shares.items():
        first = i + step * min(LEAD, recall - 1)  # on the near side of the match
        for place in range(recall):
            if 0 <= first - step * place < len(past):
                scores[first - step * place] += share / sum(shares.values())
    return scores


@pytest.mark.parametrize("storage", [DENSE, Packed(AS_COMPUTED, 1, InMainMemory())])
def test_scores_are_of_runs_beside_the_newest_frames_seen_again(storage: object) -> None:
    cache = open_cache(SHAPE, POLICY, storage, 24, "cpu")  # type: ignore[arg-type]
    assert isinstance(cache, ContentCache)
    for first in range(0, 15, 3):
        commit(cache, first)
        cache.recall(sorted(cache.archive.frames)[:2])
    past = sorted(cache.archive.frames)
    assert past == [*range(1, 12)]
    assert cache.scores(past) == pytest.approx(by_loops(14, past, 2), rel=1e-4)
    assert cache.scores(past[:4]) == pytest.approx(by_loops(14, past[:4], 2), rel=1e-4)
    assert cache.offloaded_bytes == planned_offloaded(SHAPE, POLICY, 24, storage)
    assert cache.offloaded_bytes == planned(SHAPE, POLICY, storage, 24)


@pytest.mark.parametrize(
    ("again", "run"), [([19, 18, 17], range(12, 20)), ([15, 16, 17], range(15, 23))]
)
def test_what_came_next_in_either_direction_is_recalled(again: list[int], run: range) -> None:
    """Frames pass again backwards or forwards: LEAD before frame 17, and five after it."""
    cache = ContentCache(SHAPE, RecallWindow(11, 0, 8, by="content"), 60)
    for first in range(0, 45, 3):
        commit(cache, first)
    for frame in again:
        cache.commit([(k + 0.3 * randn(*k.shape, seed=frame), v) for k, v in frame_kv(frame)])
    past = sorted(cache.archive.frames)
    assert [past[i] for i in best_runs(cache.scores(past), 8, 1)] == [*run]


def test_frames_that_are_all_alike_have_scores_too() -> None:
    cache = ContentCache(SHAPE, POLICY, 24)
    for _ in range(10):
        cache.commit(frame_kv(3))
    past = sorted(cache.archive.frames)
    assert all(0 < score < 1 for score in cache.scores(past))
    assert cache.scores(past[:1]) == [1.0]


def test_a_summary_is_the_mean_key_of_each_region() -> None:
    shape = replace(SHAPE, rows=9, columns=8)
    keys = [randn(2, 72, 2, 12, seed=i) for i in range(2)]
    summary = summarise(shape, keys)
    assert summary.shape == (2, 2, 24, 24)
    for layer, k in enumerate(keys):
        grid = k.view(2, 9, 8, 24)
        for region in range(24):
            (top, bottom), (left, right) = span(region // 6, 4, 9), span(region % 6, 6, 8)
            mean = grid[:, top:bottom, left:right].flatten(1, 2).mean(1)
            unit = mean / mean.norm(dim=-1, keepdim=True)
            torch.testing.assert_close(summary[layer, :, region], unit)


def span(part: int, parts: int, size: int) -> tuple[int, int]:
    """Where region `part` of `parts` begins and ends; neighbours share a row that lies between."""
    return part * size // parts, -(-(part + 1) * size // parts)


@pytest.mark.parametrize(
    ("layers", "some"), [(2, [0, 1]), (6, [*range(6)]), (30, [*range(4, 30, 5)])]
)
def test_summaries_are_of_evenly_spaced_layers(layers: int, some: list[int]) -> None:
    assert summary_layers(layers) == some
    assert len(some) <= SUMMARY_LAYERS and some[-1] == layers - 1


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
        commit(limited, start)
    past = sorted(limited.archive.frames)
    assert past == [9, 10, 11]
    assert limited.scores(past) == pytest.approx(by_loops(14, past, 2), rel=1e-4)
    growing = ContentCache(SHAPE, RecallWindow(5, 0, 2, by="content"), 6)
    for start in range(0, 24, 3):
        commit(growing, start)
    past = sorted(growing.archive.frames)
    assert len(past) == 21
    assert growing.scores(past) == pytest.approx(by_loops(23, past, 2), rel=1e-4)


def test_a_flush_forgets_the_archive_and_what_was_searched_for() -> None:
    cache = ContentCache(SHAPE, POLICY)
    for start in range(0, 12, 3):
        commit(cache, start)
    cache.recall([2, 3])
    cache.retain([0, 11])
    assert cache.kept_frames == [0, 11] and cache.archive.frames == cache.recalled == []
    for start in (12, 15):  # frame 11 leaves, and the first three of these
        commit(cache, start)
    past = sorted(cache.archive.frames)
    assert past == [11, 12, 13, 14]
    assert cache.scores(past) == pytest.approx(by_loops(17, past, 2), rel=1e-4)


def test_runs_of_two_lengths_are_scored_by_the_longer() -> None:
    """Three frames in two runs: one of two frames and one of one."""
    cache = ContentCache(SHAPE, RecallWindow(6, 0, 3, 2, by="content"))
    for start in range(0, 12, 3):
        commit(cache, start)
    past = sorted(cache.archive.frames)
    assert cache.scores(past) == pytest.approx(by_loops(11, past, 2), rel=1e-4)


def test_branches_count_alike() -> None:
    """The cosines are means over the batch rows."""
    shape = replace(SHAPE, batch=2)
    cache = ContentCache(shape, RecallWindow(4, 0, 2, by="content"), 12)

    def both(frame: int) -> list[tuple[Tensor, Tensor]]:
        pairs = zip(frame_kv(frame), frame_kv(100 + frame), strict=True)
        return [(torch.cat([a, c]), torch.cat([b, d])) for (a, b), (c, d) in pairs]

    for frame in range(9):
        cache.commit(both(frame))
    past = sorted(cache.archive.frames)
    assert cache.scores(past) == pytest.approx(by_loops(8, past, 2, both), rel=1e-4)
