"""The positions of the entries of a merged cache, and the rotation of their keys."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from longtake.attention.ann.nearest import Exact
from longtake.attention.cache.kv_cache import KVCache
from longtake.attention.cache.policy import FullHistory
from longtake.attention.rope import rotate, rotation
from longtake.attention.temp_cache.cache import MergedCache
from longtake.attention.temp_cache.policy import EVICTIONS, REDUNDANT, TempCache
from longtake.attention.views import PartialHistory
from longtake.tests.support.attention.temp_caches import (
    DIM,
    HEADS,
    NEVER,
    SHAPE,
    TOKENS,
    chunk_kv,
    fill_cache,
    frame_kv,
    queries,
)
from longtake.tests.support.laws import examples


def test_a_merged_entry_stands_where_its_newest_key_stood_within_reach() -> None:
    k, v = frame_kv(0)
    shifted = k.roll(1, 1)  # the content of token 0 is now at token 1
    cache = MergedCache(SHAPE, TempCache(9, 0.99, reach_frames=3), Exact())
    cache.commit([(k, v)] * SHAPE.layers)
    cache.commit([(shifted, v)] * SHAPE.layers)
    kept = cache.entries(0)
    assert kept.frame[0, 0, :TOKENS].tolist() == [1] * TOKENS
    assert kept.place[0, 0, :TOKENS].tolist() == [1, 2, 3, 4, 5, 0]
    for frame in range(2, 8):
        cache.commit(chunk_kv(range(frame, frame + 1)))
        keys, _, _ = cache.rotated_keys.workspace(0)
        at = rotation([max(1, cache.committed - 3)], 2, 3, DIM)
        expected = rotate(shifted, at).roll(-1, 1).transpose(1, 2)
        torch.testing.assert_close(keys[:, :, :TOKENS], expected)
    assert cache.positions == [5, 5, 5, 5, 5, 5, 6, 7]


@examples(25)
@given(
    frames=st.integers(1, 14),
    entries=st.integers(3, 6) | st.sampled_from([3.5, 4.75]),
    sink=st.integers(0, 2),
    reach=st.none() | st.integers(1, 9),
    eviction=st.sampled_from([REDUNDANT, "least attended"]),
    chunk=st.integers(1, 3),
)
def test_every_key_is_rotated_by_where_it_stood_however_many_commits_ago(  # noqa: PLR0913
    frames: int, entries: float, sink: int, reach: int | None, eviction: str, chunk: int
) -> None:
    policy = TempCache(entries, 1.01, 2.0, sink, reach, eviction=eviction, recent_frames=2)
    cache = fill_cache(policy, frames, chunk=chunk)
    farthest = frames if reach is None else reach
    for layer in range(SHAPE.layers):
        kept, (turned, _, _) = cache.entries(layer), cache.rotated_keys.workspace(layer)
        expected = {
            frame: rotate(
                frame_kv(frame, layer)[0], rotation([max(frame, frames - farthest)], 2, 3, DIM)
            )
            for frame in range(frames)
        }
        for n in range(HEADS):
            at = zip(kept.frame[0, n].tolist(), kept.place[0, n].tolist(), strict=True)
            for slot, (frame, place) in enumerate([*at][: cache.rotated_keys.slots_in_use[layer]]):
                assert torch.equal(turned[0, n, slot], expected[frame][0, place, n])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("left", [[7], [6, 7], [0, 7]])
def test_what_is_read_after_a_rewind_and_a_commit_is_what_a_restored_cache_reads(
    left: list[int], dtype: torch.dtype
) -> None:
    shape, policy = dataclasses.replace(SHAPE, dtype=dtype), TempCache(5, eviction=REDUNDANT)
    one, other = (MergedCache(shape, policy, Exact()) for _ in range(2))
    asked = [x.to(dtype) for x in queries()]
    for frame in range(8):
        one.commit(chunk_kv(range(frame, frame + 1)))
    one.retain(left)
    for frame in range(8, 14):  # which leave empty slots at first
        for layer in range(SHAPE.layers):
            one.attention(2)(layer, *asked)
        one.commit(chunk_kv(range(frame, frame + 1)))
        other.restore(one.snapshot())
        for layer in range(SHAPE.layers):
            assert torch.equal(*(cache.attention(2)(layer, *asked) for cache in (one, other)))


@pytest.mark.parametrize("eviction", EVICTIONS)
def test_where_nothing_gave_way_it_is_dense_attention_as_far_as_it_reaches(eviction: str) -> None:
    policy = TempCache(9, NEVER, reach_frames=4, eviction=eviction)
    for frames in (3, 4, 5, 8):
        dense, ours = KVCache(SHAPE, FullHistory(), 9), fill_cache(policy, frames)
        for frame in range(frames):
            dense.commit(chunk_kv(range(frame, frame + 1)))
        made = (cache.attention(2)(1, *queries()) for cache in (dense, ours))
        assert torch.equal(*made) == (frames <= 4)


def test_active_frames_stand_right_behind_a_history_that_has_lost_most_of_its_frames() -> None:
    """Compare with a history that was never longer, of the same keys at the same distances."""
    long, short = fill_cache(TempCache(4, eviction=REDUNDANT), 20), fill_cache(TempCache(4), 0)
    long.retain([18, 19])
    for frame in (18, 19):
        short.commit(chunk_kv(range(frame, frame + 1)))
    for layer in range(SHAPE.layers):
        found, expected = (cache.attention(2)(layer, *queries()) for cache in (long, short))
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("eviction", EVICTIONS)
def test_the_sink_is_cut_out_of_it_as_out_of_a_full_history(eviction: str) -> None:
    """Frames between the sink and the newest frames have left the history."""
    policy = TempCache(5, NEVER, sink_frames=2, eviction=eviction)
    full, cut = KVCache(SHAPE, FullHistory(), 9), []
    for frame in range(0, 9, 3):
        full.commit(chunk_kv(range(frame, frame + 3)))
    for cache in (fill_cache(policy, 9, chunk=3), full):
        active = [len(cache.kept_frames), len(cache.kept_frames) + 1]
        view = PartialHistory(cache, (2, 2), slice(None), (0, 1), active)
        cut.append(view(1, *queries()))
    torch.testing.assert_close(*cut, rtol=1e-5, atol=1e-6)
