"""Where the entries of a merged cache stand, and that their keys are rotated by it."""

from __future__ import annotations

import torch

from longtake.attention.ann.nearest import Exact
from longtake.attention.rope import rotate, rotation
from longtake.attention.temp_cache import MergedCache
from longtake.attention.temp_policy import TempCache
from longtake.tests.test_temp_cache import DIM, SHAPE, TOKENS, chunk_kv, frame_kv


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
        keys, _, _ = cache.workspace(0)
        at = rotation([max(1, cache.committed - 3)], 2, 3, DIM)
        expected = rotate(shifted, at).roll(-1, 1).transpose(1, 2)
        torch.testing.assert_close(keys[:, :, :TOKENS], expected)
    assert cache.positions == [5, 5, 5, 5, 5, 5, 6, 7]
