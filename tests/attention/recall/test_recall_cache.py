"""A window that recalls past frames, against lists of frames."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from longtake.attention.cache.policy import WindowSink
from longtake.attention.history import open_cache, planned_bytes
from longtake.attention.recall.cache import RecallCache, planned_offloaded
from longtake.attention.recall.window import RecallWindow
from longtake.attention.storage.codec import AS_COMPUTED
from longtake.attention.storage.dense import DENSE, Storage
from longtake.attention.storage.packed import Packed
from longtake.attention.storage.placement import InMainMemory
from longtake.attention.storage.quantize import INT8
from longtake.tests.support.attention.caches import SHAPE, TOKENS, chunk_kv, naive_attention
from longtake.tests.support.attention.snapshots import assert_same_histories, through_json
from longtake.tests.support.laws import examples
from longtake.tests.support.tiny_model import randn

STORAGES = (DENSE, Packed(AS_COMPUTED, 2), Packed(INT8, 2), Packed(AS_COMPUTED, 1, InMainMemory()))


class NaiveRecall:
    """Frame numbers in lists: what a recalling window and its archive hold."""

    def __init__(self, policy: RecallWindow) -> None:
        self.policy = policy
        self.sink: list[int] = []
        self.newest: list[int] = []
        self.past: list[int] = []
        self.recalled: list[int] = []

    def commit(self, frame: int) -> None:
        if len(self.sink) < self.policy.sink_frames:
            self.sink.append(frame)
            return
        self.newest.append(frame)
        if len(self.newest) > self.policy.newest_frames:
            self.past.append(self.newest.pop(0))
        if self.policy.archive_frames is not None:
            self.past = self.past[-self.policy.archive_frames :]

    @property
    def held(self) -> list[int]:
        return sorted([*self.sink, *self.recalled, *self.newest])


@st.composite
def windows(draw: st.DrawFn) -> RecallWindow:
    """Small windows of every division."""
    sink, recall, newest = (draw(st.integers(low, 4)) for low in (0, 1, 1))
    limit = draw(st.sampled_from((None, recall, recall + 3)))
    return RecallWindow(sink + recall + newest, sink, recall, archive_frames=limit)


@examples(60)
@given(windows(), st.data(), st.sampled_from(STORAGES), st.sampled_from((None, 30)))
def test_a_recalling_window_holds_what_lists_hold(
    policy: RecallWindow, data: st.DataObject, storage: Storage, length: int | None
) -> None:
    cache = open_cache(SHAPE, policy, storage, length, "cpu")
    assert isinstance(cache, RecallCache)
    lists, committed = NaiveRecall(policy), 0
    for _ in range(data.draw(st.integers(1, 8))):
        count = data.draw(st.integers(1, SHAPE.chunk_frames))
        cache.commit(chunk_kv(range(committed, committed + count)))
        for frame in range(committed, committed + count):
            lists.commit(frame)
        committed += count
        assert sorted(cache.kept_frames) == lists.held
        assert sorted(cache.archive.frames) == lists.past
        most = min(policy.recall_frames, len(lists.past))
        chosen = data.draw(st.permutations(lists.past))[:most]
        lists.recalled = sorted(chosen)
        cache.recall(chosen)
        assert sorted(cache.kept_frames) == lists.held
        assert len(lists.held) == min(committed, policy.window_frames) or policy.archive_frames
        assert sorted(cache.positions) == [*range(len(lists.held))]
    assert cache.bytes == planned_bytes(SHAPE, policy, storage, length)
    if length is not None:
        assert cache.offloaded_bytes == planned_offloaded(SHAPE, policy, length, storage)
    ranks = [cache.positions[cache.kept_frames.index(frame)] for frame in lists.held]
    assert ranks == [*range(len(lists.held))]


@pytest.mark.parametrize("storage", STORAGES[:2] + STORAGES[3:])
def test_attention_after_a_recall_is_that_of_the_frames_held(storage: Storage) -> None:
    cache = RecallCache(SHAPE, RecallWindow(7, 1, 3), 20, storage=storage)
    for first in range(0, 18, 3):
        cache.commit(chunk_kv(range(first, first + 3)))
    for chosen in ([4, 5, 6], [5, 9, 14], [9]):
        cache.recall(chosen)
        held = [0, *chosen, 15, 16, 17]
        assert sorted(cache.kept_frames) == held
        q, k, v = (randn(1, 2 * TOKENS, 2, 12, seed=seed) for seed in (7, 8, 9))
        for layer, expected in enumerate(naive_attention(held, q, k, v)):
            ours = cache.attention(2)(layer, q, k, v)
            torch.testing.assert_close(ours, expected, rtol=1e-4, atol=1e-5)


def test_without_recalled_frames_the_bits_are_those_of_a_window() -> None:
    ours = open_cache(SHAPE, RecallWindow(6, 1, 0), DENSE, 20, "cpu")
    plain = open_cache(SHAPE, WindowSink(6, 1), DENSE, 20, "cpu")
    for first in range(0, 15, 3):
        for cache in (ours, plain):
            cache.commit(chunk_kv(range(first, first + 3)))
    assert ours.offloaded_bytes == 0
    assert ours.bytes == plain.bytes
    assert_same_histories(ours, plain)


def test_until_the_window_is_full_nothing_is_missing() -> None:
    cache = RecallCache(SHAPE, RecallWindow(6, 1, 3))
    cache.commit(chunk_kv(range(3)))
    cache.commit(chunk_kv(range(3, 6)))
    assert sorted(cache.kept_frames) == [0, 4, 5]
    cache.recall([1, 2, 3])
    assert sorted(cache.kept_frames) == [0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize("storage", STORAGES)
def test_a_snapshot_continues_with_the_same_bits(storage: Storage) -> None:
    policy = RecallWindow(7, 1, 3)
    first, second = (RecallCache(SHAPE, policy, None, storage=storage) for _ in range(2))
    for start in range(0, 12, 3):
        first.commit(chunk_kv(range(start, start + 3)))
    first.recall([2, 3, 5])
    second.restore(through_json(first.snapshot()))
    for cache in (first, second):
        cache.commit(chunk_kv(range(12, 15)))
        cache.recall([1, 4, 8])
    assert_same_histories(first, second)


def test_an_archive_with_a_limit_forgets_the_oldest() -> None:
    cache = RecallCache(SHAPE, replace(RecallWindow(5, 0, 2), archive_frames=4))
    for start in range(0, 15, 3):
        cache.commit(chunk_kv(range(start, start + 3)))
    assert sorted(cache.archive.frames) == [8, 9, 10, 11]
    with pytest.raises(ValueError, match="not archived are \\[7\\]"):
        cache.recall([7])
    with pytest.raises(ValueError, match="at most 2"):
        cache.recall([8, 9, 10])


def test_a_flush_forgets_the_archive_too() -> None:
    cache = RecallCache(SHAPE, RecallWindow(5, 0, 2))
    for start in range(0, 9, 3):
        cache.commit(chunk_kv(range(start, start + 3)))
    cache.recall([1, 2])
    cache.retain([2, 7, 8])  # what was fetched again goes too
    assert cache.kept_frames == [7, 8]
    assert cache.archive.frames == cache.recalled == []


@pytest.mark.parametrize(
    ("values", "sentence"),
    [((5, 0, 5), "one newest frame"), ((5, 2, 3), "one newest frame"), ((5, 0, 2, 3), "runs"),
     ((9, 0, 4, 1, "view", 3), "archive_frames"),
     ((9, 0, 4, 1, "content", None, False, True), "recalled by view")],
)  # fmt: skip
def test_impossible_windows_are_refused(values: tuple[int, ...], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        RecallWindow(*values)


def test_an_archive_decodes_on_the_device_and_stays_in_main_memory() -> None:
    cache = RecallCache(SHAPE, RecallWindow(5, 0, 2), 24, storage=Packed(INT8, 2))
    for first in range(0, 12, 3):
        cache.commit(chunk_kv(range(first, first + 3)))
    before, held = cache.archive.get(1), cache.archive.bytes
    cache.move("meta")
    assert {x.device.type for pair in cache.archive.get(1) for x in pair} == {"meta"}
    assert cache.archive.bytes == held
    cache.archive.move(torch.device("cpu"))
    for one, other in zip(cache.archive.get(1), before, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))
