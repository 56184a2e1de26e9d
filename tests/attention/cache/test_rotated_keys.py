"""Rotated keys that stay between commits, against keys that are all rotated anew."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from longtake.attention.cache import rotated_keys
from longtake.attention.cache.by_layer.dummy_heads import DummyHeads
from longtake.attention.cache.kv_cache import KVCache
from longtake.attention.cache.placed_windows import (
    AnchorWindow,
    DistantSink,
    SharedWindow,
    WaveWindow,
)
from longtake.attention.cache.policy import (
    UNBOUNDED_START,
    AveragingSink,
    CachePolicy,
    FullHistory,
    MostAttended,
    WindowSink,
)
from longtake.attention.history import open_cache
from longtake.attention.recall.cache import RecallCache
from longtake.attention.recall.window import RecallWindow
from longtake.attention.rope import Rotation, rotate_into
from longtake.attention.storage.dense import DENSE
from longtake.tests.support.attention.caches import SHAPE, TOKENS, chunk_kv, fill
from longtake.tests.support.laws import examples
from longtake.tests.support.tiny_model import randn

POLICIES = (
    FullHistory(),
    WindowSink(7, 2),
    AveragingSink(6, 2, 0.5),
    DistantSink(6, 1),
    MostAttended(6, 1),
    MostAttended(6, 1, per_head=True),
    DummyHeads(6, 1),
    RecallWindow(8, 1, 3),
    RecallWindow(8, 1, 3, by="content"),
    SharedWindow(7, 2),
    WaveWindow(9, 2),
    AnchorWindow(7, 2),
)


def pass_over(cache: KVCache, seed: int) -> list[Tensor]:
    """The outputs of two active frames in every layer."""
    q, k, v = (randn(1, 2 * TOKENS, 2, 12, seed=seed + i) for i in range(3))
    attention = cache.attention(2)
    return [attention(layer, q, k, v) for layer in range(SHAPE.layers)]


def commit(cache: KVCache, data: st.DataObject) -> None:
    count = data.draw(st.integers(1, 3))
    cache.commit(chunk_kv(range(cache.committed, cache.committed + count)))


def recall(cache: KVCache, data: st.DataObject) -> None:
    if isinstance(cache, RecallCache):
        cache.recall(data.draw(st.permutations(cache.archive.frames))[: cache.policy.recall_frames])


def make_gap(cache: KVCache, data: st.DataObject) -> None:
    cache.leave_gap(data.draw(st.integers(0, 4)))


def drop_one(cache: KVCache, data: st.DataObject) -> None:
    held, sink = sorted(cache.kept_frames), cache.policy.sink_frames
    if not isinstance(cache.policy, MostAttended) and len(held) > sink:
        cache.retain([*held[:sink], *held[sink + 1 :]])


def commit_again(cache: KVCache, data: st.DataObject) -> None:
    held = sorted(cache.kept_frames)
    cache.restart(held)
    if held:
        cache.commit([(k + 1, v - 1) for k, v in chunk_kv(held[:3])])


def restore_earlier(cache: KVCache, data: st.DataObject) -> None:
    before = cache.snapshot()
    commit(cache, data)
    pass_over(cache, 500)
    cache.restore(before)


CHANGES: tuple[Callable[[KVCache, st.DataObject], None], ...] = (
    commit, commit, commit, recall, make_gap, drop_one, commit_again, restore_earlier,
)  # fmt: skip


@examples(120)
@given(st.sampled_from(POLICIES), st.data(), st.sampled_from((None, 90)))
def test_keys_that_stay_rotated_are_those_rotated_anew(
    policy: CachePolicy, data: st.DataObject, length: int | None
) -> None:
    cache = open_cache(SHAPE, policy, DENSE, length, "cpu")
    assert isinstance(cache, KVCache)
    for turn in range(data.draw(st.integers(1, 9))):
        data.draw(st.sampled_from(CHANGES))(cache, data)
        stayed = pass_over(cache, 900 + turn)
        cache.rotated_keys.forget()
        for ours, expected in zip(stayed, pass_over(cache, 900 + turn), strict=True):
            assert torch.equal(ours, expected)


@pytest.mark.parametrize(
    ("policy", "frames"),
    [
        (FullHistory(), [3, 3, 3, 3, 3, 3]),  # as many as are new, however long the history is
        (WindowSink(7), [3, 3, 3, 3, 3, 3]),
        (WindowSink(7, 2), [3, 3, 5, 5, 5, 5]),  # the sink follows the window once frames leave
        (DistantSink(7, 2), [3, 3, 3, 3, 3, 3]),
    ],
)
def test_a_commit_rotates_new_keys_and_those_that_move(
    policy: CachePolicy, frames: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    tokens: list[int] = []

    def count(out: Tensor, x: Tensor, by: Rotation) -> None:
        tokens.append(x.shape[1])
        rotate_into(out, x, by)

    monkeypatch.setattr(rotated_keys, "rotate_into", count)
    cache = KVCache(SHAPE, policy, 30)
    rotated = list[int]()
    for first in range(0, 18, 3):
        cache.commit(chunk_kv(range(first, first + 3)))
        for seed in (1, 2):  # the second pass finds all of them rotated
            pass_over(cache, seed)
        rotated.append(sum(tokens) // TOKENS // SHAPE.layers)
        tokens.clear()
    assert rotated == frames


def test_the_newest_frames_are_at_their_own_numbers() -> None:
    cache = KVCache(SHAPE, WindowSink(7, 2), 100)
    fill(cache, 60, chunk=3)
    places = dict(zip(cache.kept_frames, cache.rotated_keys.layout.places(0), strict=True))
    assert places == {0: 53, 1: 54, 55: 55, 56: 56, 57: 57, 58: 58, 59: 59}


def test_a_history_that_outgrows_its_memory_is_rotated_anew() -> None:
    cache = KVCache(SHAPE, FullHistory())
    fill(cache, UNBOUNDED_START - 1, chunk=3)
    before = cache.bytes
    for turn in range(2):
        pass_over(cache, turn)
        cache.commit(chunk_kv(range(cache.committed, cache.committed + 3)))
    assert cache.bytes > before
    stayed = pass_over(cache, 9)
    cache.rotated_keys.forget()
    assert all(map(torch.equal, stayed, pass_over(cache, 9)))


def test_a_rotation_that_fails_is_made_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory may run out between two runs of slots; then a gap takes the sink where it was."""
    cache = KVCache(SHAPE, WindowSink(7, 2), 30)
    fill(cache, 18, chunk=3)
    pass_over(cache, 1)
    cache.commit(chunk_kv(range(18, 21)))

    def fail_at_new_frames(out: Tensor, x: Tensor, by: Rotation) -> None:
        if x.shape[1] == 3 * TOKENS:
            raise MemoryError
        rotate_into(out, x, by)
        sinks.append(x.shape[1])

    sinks = list[int]()
    monkeypatch.setattr(rotated_keys, "rotate_into", fail_at_new_frames)
    with pytest.raises(MemoryError):
        pass_over(cache, 2)
    assert sinks == [2 * TOKENS]
    monkeypatch.undo()
    for gap in (3, 0, 6):
        cache.leave_gap(gap)
        stayed = pass_over(cache, 3)
        cache.rotated_keys.forget()
        assert all(map(torch.equal, stayed, pass_over(cache, 3)))
