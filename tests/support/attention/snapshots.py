"""Snapshots written and read back, and caches compared by bits."""

from __future__ import annotations

import json

import torch

from longtake.attention.history import HistoryCache
from longtake.attention.snapshot import Snapshot
from longtake.tests.support.attention.caches import SHAPE, TOKENS
from longtake.tests.support.tiny_model import randn


def through_json(snapshot: Snapshot) -> Snapshot:
    """What a file would give: facts through JSON, tensors of their own."""
    tensors = {name: tensor.clone() for name, tensor in snapshot.tensors.items()}
    return Snapshot(tensors, json.loads(json.dumps(snapshot.facts)))


def assert_same_histories(ours: HistoryCache, theirs: HistoryCache) -> None:
    """The same frames in the same slots, the same bits, and the same attention over them."""
    assert (ours.kept_frames, ours.committed) == (theirs.kept_frames, theirs.committed)
    q, k, v = (randn(1, 2 * TOKENS, 2, 12, seed=900 + i) for i in range(3))
    for layer in range(SHAPE.layers):
        for a, b in zip(ours.history(layer), theirs.history(layer), strict=True):
            assert torch.equal(a, b)
        assert torch.equal(ours.attention(2)(layer, q, k, v), theirs.attention(2)(layer, q, k, v))
