"""A window with a state: what leaves the window is in the state, once, and nothing else is."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from longtake.attention.cache.policy import WindowSink
from longtake.attention.delta.cache import DeltaCache
from longtake.attention.delta.rule import states_before
from longtake.attention.delta.state import Gates, frame_writes
from longtake.attention.delta.window import DeltaWindow
from longtake.attention.history import open_cache, planned_bytes
from longtake.attention.rope import rotation
from longtake.attention.storage.codec import AS_COMPUTED
from longtake.attention.storage.dense import DENSE, Storage
from longtake.attention.storage.packed import Packed
from longtake.attention.storage.placement import InMainMemory
from longtake.attention.storage.quantize import INT8
from longtake.tests.support.attention.caches import SHAPE, TOKENS, chunk_kv, fill, frame_kv
from longtake.tests.support.attention.snapshots import assert_same_histories, through_json
from longtake.tests.support.laws import examples
from longtake.tests.support.tiny_model import randn

STORAGES = (DENSE, Packed(AS_COMPUTED, 2), Packed(INT8, 2), Packed(AS_COMPUTED, 1, InMainMemory()))
PLACES = rotation([0], SHAPE.rows, SHAPE.columns, SHAPE.head_dim)


def gates(layer: int, values: Tensor) -> Gates:
    """Gates that depend on layer, head and content."""
    strength = torch.sigmoid(values[..., 0] + layer)
    return Gates(strength, torch.exp(-0.1 * values[..., 1].mean(2).abs()))


def opened(policy: WindowSink, storage: Storage = DENSE, length: int | None = None) -> DeltaCache:
    cache = open_cache(SHAPE, policy, storage, length, "cpu")
    assert isinstance(cache, DeltaCache)
    cache.state.gates = gates
    return cache


def expected_state(frames: list[int], layer: int) -> Tensor:
    """The state of a layer after these frames, in the form for training."""
    pairs = [frame_kv(frame)[layer] for frame in frames]
    k, v = (torch.stack([pair[i] for pair in pairs], 1) for i in range(2))
    return states_before(frame_writes(k, v, gates(layer, v), PLACES))[:, -1]


@examples(40)
@given(
    window=st.integers(1, 6), sink=st.integers(0, 2), count=st.integers(0, 14),
    chunk=st.integers(1, 3), exact=st.sampled_from((DENSE, STORAGES[1], STORAGES[3])),
)  # fmt: skip
def test_the_state_holds_what_has_left_the_window(
    window: int, sink: int, count: int, chunk: int, exact: Storage
) -> None:
    policy = DeltaWindow(window + sink, sink)
    cache, plain = (
        opened(policy, exact),
        open_cache(SHAPE, WindowSink(window + sink, sink), exact, None, "cpu"),
    )
    fill(cache, count, chunk)
    fill(plain, count, chunk)  # type: ignore[arg-type]
    assert cache.kept_frames == plain.kept_frames
    left = [frame for frame in range(count) if frame not in cache.kept_frames]
    assert cache.state.absorbed == len(left) and cache.state.is_empty == (not left)
    for layer in range(SHAPE.layers):
        if left:
            expected = expected_state(left, layer)
            torch.testing.assert_close(cache.state.values[layer], expected, rtol=1e-5, atol=1e-6)
        else:
            assert not cache.state.values[layer].any()


def test_a_rehearsal_reads_the_state_once_the_window_is_full() -> None:
    cache = opened(DeltaWindow(4, 1))
    cache.assume(3)
    assert cache.state.is_empty
    cache.assume(1)
    assert not cache.state.is_empty


@pytest.mark.parametrize("storage", STORAGES, ids=["dense", "recent", "int8", "main memory"])
def test_bytes_are_as_planned_and_a_snapshot_goes_on(storage: Storage) -> None:
    policy = DeltaWindow(4, 1)
    first, second = opened(policy, storage, 20), opened(policy, storage, 20)
    fill(first, 9)
    assert first.bytes == planned_bytes(SHAPE, policy, storage, 20)
    without = planned_bytes(SHAPE, WindowSink(4, 1), storage, 20)
    assert first.bytes - without == first.state.values.nbytes == 4 * 2 * 2 * 12 * 12
    second.restore(through_json(first.snapshot()))
    for cache in (first, second):
        cache.commit(chunk_kv([9, 10]))
    assert_same_histories(first, second)
    assert torch.equal(first.state.values, second.state.values)
    assert first.state.absorbed == second.state.absorbed == 7


def test_reading_changes_nothing_and_answers_by_head() -> None:
    cache = opened(DeltaWindow(2))
    fill(cache, 6)
    before = cache.state.values.clone()
    q = randn(1, 2 * TOKENS, 2, 12, seed=3)
    answers = cache.state.read(1, q, slice(0, 1))
    assert answers.shape == q.shape and answers.abs().sum() > 0
    assert torch.equal(cache.state.values, before)
    other = q.clone()
    other[:, :, 1] = 0
    changed = cache.state.read(1, other, slice(0, 1))
    assert torch.equal(changed[:, :, 0], answers[:, :, 0]) and not changed[:, :, 1].any()


def test_forgetting_empties_the_state_and_committing_again_does_not() -> None:
    cleared, flushed, again = (opened(DeltaWindow(3)) for _ in range(3))
    for cache in (cleared, flushed, again):
        fill(cache, 8)
    cleared.clear()
    flushed.retain([7])
    assert cleared.state.is_empty and flushed.state.is_empty
    assert not cleared.state.values.any() and not flushed.state.values.any()
    before = again.state.values.clone()
    again.restart([5, 6, 7])
    again.commit(chunk_kv([5, 6, 7]))
    assert torch.equal(again.state.values, before) and again.state.absorbed == 5
    again.commit(chunk_kv([8]))
    torch.testing.assert_close(again.state.values[0], expected_state([*range(6)], 0))


def test_a_state_without_gates_says_so() -> None:
    cache = opened(DeltaWindow(1))
    cache.state.gates = None
    with pytest.raises(ValueError, match="has no gates"):
        fill(cache, 2)


def test_a_state_moves_and_is_freed_with_its_cache() -> None:
    cache = opened(DeltaWindow(2))
    fill(cache, 5)
    cache.move("meta")
    assert cache.state.values.is_meta and cache.state.places.cos.is_meta
    cache.drop()
    assert cache.bytes == 0 and not hasattr(cache, "state")
