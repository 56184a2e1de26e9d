"""The cache's arithmetic against a plain list of frames; laws 2, 3 and 4."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from longtake.attention.cache.kv_cache import KVCache, planned_bytes
from longtake.attention.cache.policy import CachePolicy, FullHistory, WindowSink
from longtake.attention.dense import attend
from longtake.attention.rope import rotate, rotation
from longtake.tests.support.attention.caches import (
    SHAPE,
    TOKENS,
    chunk_kv,
    fill,
    frame_list,
    naive_attention,
    policies,
)
from longtake.tests.support.laws import examples
from longtake.tests.support.tiny_model import randn

ON_GPU = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")]


@examples(60)
@given(
    policy=policies(),
    chunks=st.lists(st.integers(1, 3), max_size=9),
    planned=st.booleans(),
    hold=st.booleans(),
)
def test_ring_slots_equal_a_list_of_frames(
    policy: CachePolicy, chunks: list[int], planned: bool, hold: bool
) -> None:
    frames = sum(chunks)
    shape = dataclasses.replace(SHAPE, hold_rotated=hold)
    cache = KVCache(shape, policy, max(frames, 1) if planned else None)
    q, k, v = (randn(1, 2 * TOKENS, 2, 12, seed=900 + i) for i in range(3))
    first = 0
    for count in chunks:
        cache.commit(chunk_kv(range(first, first + count)))
        first += count
        expected = naive_attention(frame_list(policy, first), q, k, v)
        for layer in range(SHAPE.layers):
            out = cache.attention(2)(layer, q, k, v)
            torch.testing.assert_close(out, expected[layer], rtol=1e-5, atol=1e-6)
    held = frame_list(policy, frames)
    assert sorted(cache.kept_frames) == held
    assert [held[position] for position in cache.positions] == cache.kept_frames


@pytest.mark.parametrize("hold", [True, False])
def test_denoising_only_reads_the_history(*, hold: bool) -> None:
    cache = KVCache(dataclasses.replace(SHAPE, hold_rotated=hold), WindowSink(4, 1), 20)
    fill(cache, 6)
    before = [(k.clone(), v.clone()) for k, v in map(cache.history, range(SHAPE.layers))]
    held, committed = list(cache.kept_frames), cache.committed
    for noisy_pass in range(5):
        attention = cache.attention(3)
        for layer in range(SHAPE.layers):
            x = randn(1, 3 * TOKENS, 2, 12, seed=noisy_pass)
            attention(layer, x, x + 1, x + 2)
    for layer, (k, v) in enumerate(before):
        assert torch.equal(cache.history(layer)[0], k)
        assert torch.equal(cache.history(layer)[1], v)
    assert (cache.kept_frames, cache.committed) == (held, committed)


@examples(40)
@given(
    held=st.integers(0, 3),
    visible=st.lists(st.integers(1, 3), min_size=3, max_size=3),
)
def test_active_frames_see_the_history_and_as_many_of_one_another_as_told(
    held: int, visible: list[int]
) -> None:
    """Slicing the keys equals masking all of them."""
    cache = KVCache(SHAPE, FullHistory(), 9)
    fill(cache, held)
    q, k, v = (randn(1, 3 * TOKENS, 2, 12, seed=900 + i) for i in range(3))
    by = rotation(range(held + 3), SHAPE.rows, SHAPE.columns, SHAPE.head_dim)
    now = rotation(range(held, held + 3), SHAPE.rows, SHAPE.columns, SHAPE.head_dim)
    past_k, past_v = chunk_kv(range(held))[1] if held else (k[:, :0], v[:, :0])
    frame = torch.arange(held + 3).repeat_interleave(TOKENS)
    mask = frame[None] < held + torch.tensor(visible).repeat_interleave(TOKENS)[:, None]
    expected = attend(
        rotate(q, now), rotate(torch.cat([past_k, k], 1), by), torch.cat([past_v, v], 1), mask
    )
    torch.testing.assert_close(
        cache.attention(3, visible)(1, q, k, v), expected, rtol=1e-5, atol=1e-6
    )


def test_keys_are_stored_as_they_were_given() -> None:
    cache = KVCache(SHAPE, FullHistory(), 4)
    fill(cache, 4)
    for layer, (k, v) in enumerate(chunk_kv(range(4))):
        assert torch.equal(cache.history(layer)[0], k)
        assert torch.equal(cache.history(layer)[1], v)


def test_sink_frames_are_never_evicted() -> None:
    cache = KVCache(SHAPE, WindowSink(5, 2))
    fill(cache, 40, chunk=3)
    assert sorted(cache.kept_frames) == [0, 1, 37, 38, 39]
    sink_k, sink_v = chunk_kv([0, 1])[1]
    assert torch.equal(cache.history(1)[0][:, : 2 * TOKENS], sink_k)
    assert torch.equal(cache.history(1)[1][:, : 2 * TOKENS], sink_v)


def test_a_window_of_everything_is_full_history_bit_for_bit() -> None:
    full, window = KVCache(SHAPE, FullHistory(), 9), KVCache(SHAPE, WindowSink(9), 9)
    q, k, v = (randn(1, 3 * TOKENS, 2, 12, seed=i) for i in range(3))
    for first in range(0, 9, 3):
        for layer in range(SHAPE.layers):
            ours, theirs = (c.attention(3)(layer, q, k, v) for c in (window, full))
            assert torch.equal(ours, theirs)
        for cache in (full, window):
            cache.commit(chunk_kv(range(first, first + 3)))


@examples(40)
@given(
    policy=policies(),
    length=st.none() | st.integers(1, 20),
    hold=st.booleans(),
    dtype=st.sampled_from([torch.float32, torch.bfloat16]),
)
def test_bytes_are_exactly_as_planned_and_stay_so(
    policy: CachePolicy, length: int | None, hold: bool, dtype: torch.dtype
) -> None:
    shape = dataclasses.replace(SHAPE, hold_rotated=hold, dtype=dtype)
    cache = KVCache(shape, policy, length)
    planned = planned_bytes(shape, policy, length)
    assert cache.bytes == planned
    fill(cache, length or 20)
    assert cache.bytes == planned


def test_a_full_history_without_an_end_grows_and_keeps_everything() -> None:
    cache = KVCache(SHAPE, FullHistory())
    start = cache.bytes
    fill(cache, 70, chunk=3)
    assert cache.kept_frames == list(range(70))
    assert torch.equal(cache.history(0)[0], chunk_kv(range(70))[0][0])
    assert cache.bytes > start


def test_more_active_frames_than_planned_are_refused() -> None:
    with pytest.raises(ValueError, match="at most 3 latent frames"):
        KVCache(SHAPE, FullHistory(), 4).attention(4)


@pytest.mark.parametrize(("window", "sink"), [(0, 0), (-1, 0), (3, 3), (3, -1)])
def test_a_window_has_room_beyond_its_sink(window: int, sink: int) -> None:
    with pytest.raises(ValueError, match="_frames must be"):
        WindowSink(window, sink)


@pytest.mark.parametrize("hold_rotated", [True, False])
@pytest.mark.parametrize("device", ["cpu:0", pytest.param("cuda", marks=ON_GPU)])
def test_a_cache_that_was_moved_away_and_back_holds_the_same_bits(
    device: str, hold_rotated: bool
) -> None:
    shape = dataclasses.replace(SHAPE, hold_rotated=hold_rotated)
    moved, stayed = KVCache(shape, WindowSink(4, 1)), KVCache(shape, WindowSink(4, 1))
    for cache in (moved, stayed):
        fill(cache, 5)
        cache.rotated_keys.workspace(0)  # some of it is rotated already
    for place in (device, "cpu"):
        moved.move(place)
        assert moved.bytes == stayed.bytes and moved.device == torch.device(place)
        assert moved.history(0)[0].device.type == torch.device(place).type
    for cache in (moved, stayed):
        cache.commit(chunk_kv([5]))
    for layer in range(SHAPE.layers):
        read = [cache.rotated_keys.workspace(layer)[:2] for cache in (moved, stayed)]
        for ours, expected in zip(*read, strict=True):
            assert torch.equal(ours[:, :, : 4 * TOKENS], expected[:, :, : 4 * TOKENS])


def test_a_dropped_cache_holds_no_memory() -> None:
    cache = KVCache(SHAPE, WindowSink(4))
    fill(cache, 2)
    assert not cache.dropped
    cache.drop()
    assert cache.dropped and cache.bytes == 0
