"""The history of a recurrent model: the newest pair of each layer, and a count of frames."""

from __future__ import annotations

import json

import pytest
import torch
from torch import Tensor

from longtake.attention.snapshot import Snapshot
from longtake.attention.states.cache import StateCache, planned_bytes
from longtake.attention.storage.shape import CacheShape
from longtake.tests.support.tiny_model import randn

SHAPE = CacheShape(layers=2, batch=3, heads=1, head_dim=4, rows=2, columns=5, chunk_frames=3)


def pairs(frames: int, seed: int) -> list[tuple[Tensor, Tensor]]:
    """What a commit of some latent frames keeps, in every layer."""
    size = 3, frames * 10, 1, 4
    return [(randn(*size, seed=seed + 2 * i), randn(*size, seed=seed + 2 * i + 1)) for i in (0, 1)]


def answer(cache: StateCache, layer: int, rows: slice = slice(None)) -> Tensor:
    count = len(range(*rows.indices(3)))
    nothing = torch.empty(count, 0, 1, 4)
    return cache.attention(3, rows=rows)(layer, nothing, nothing, nothing)


def test_the_newest_frames_pair_answers_for_all() -> None:
    cache = StateCache(SHAPE, "cpu")
    assert not answer(cache, 0).any() and cache.kept_frames == []
    first, second = pairs(3, 0), pairs(2, 10)
    cache.commit(first)
    cache.commit(second)
    for layer, (hidden, cell) in enumerate(second):
        newest = torch.cat([hidden[:, 10:], cell[:, 10:]], 1)
        assert torch.equal(answer(cache, layer), newest)
        assert torch.equal(answer(cache, layer, slice(1, 2)), newest[1:2])
        assert torch.equal(torch.cat(cache.history(layer), 1), newest)
    assert cache.committed == cache.next_position == 5 and cache.kept_frames == [0, 1, 2, 3, 4]
    nothing = torch.empty(2, 0, 1, 4)
    assert not cache.no_history(slice(0, 2))(1, nothing, nothing, nothing).any()
    assert cache.bytes == planned_bytes(SHAPE) == 2 * 2 * 3 * 10 * 4 * 4


def test_a_snapshot_goes_on_and_forgetting_forgets() -> None:
    first, second = StateCache(SHAPE, "cpu"), StateCache(SHAPE, "cpu")
    first.commit(pairs(3, 0))
    saved = first.snapshot()
    first.commit(pairs(3, 10))
    second.restore(Snapshot(saved.tensors, json.loads(json.dumps(saved.facts))))
    assert second.committed == 3 and not torch.equal(answer(first, 0), answer(second, 0))
    second.commit(pairs(3, 10))
    assert torch.equal(answer(first, 1), answer(second, 1))
    before = first.generation
    first.restart([3, 4])
    assert first.committed == 0 and first.generation == before + 1 and not answer(first, 0).any()


def test_a_state_cannot_forget_some_frames() -> None:
    cache = StateCache(SHAPE, "cpu")
    cache.commit(pairs(3, 0))
    cache.retain([0, 1, 2])
    with pytest.raises(ValueError, match="cannot forget some"):
        cache.retain([2])
    cache.drop()
    assert cache.bytes == 0
