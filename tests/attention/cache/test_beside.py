"""A cache with other layers beside its own does what two separate caches do."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from longtake.attention.cache.beside import BesideCache
from longtake.attention.cache.kv_cache import KVCache
from longtake.attention.cache.policy import CachePolicy, FullHistory, RebuiltWindow, WindowSink
from longtake.attention.storage.dense import DENSE, KeysValues, Storage
from longtake.attention.storage.packed import Packed
from longtake.attention.storage.quantize import INT8
from longtake.attention.storage.shape import CacheShape
from longtake.tests.support.attention.caches import SHAPE
from longtake.tests.support.tiny_model import randn

MORE = replace(SHAPE, layers=1, heads=1, head_dim=16)
BOTH = replace(SHAPE, beside=MORE)
LENGTH = 24
POLICIES = (FullHistory(), WindowSink(5, 1), RebuiltWindow(7, 1))
Pair = tuple[KVCache, KVCache]


def made(shape: CacheShape, frames: Sequence[int]) -> KeysValues:
    """Keys and values of latent frames, of each shape their own."""
    size = shape.batch, len(frames) * shape.frame_tokens, shape.heads, shape.head_dim
    first = 1000 * shape.heads + 10 * frames[0]
    seeds = range(first, first + 2 * shape.layers, 2)
    return [(randn(*size, seed=seed), randn(*size, seed=seed + 1)) for seed in seeds]


def same(found: Sequence[Tensor], expected: Sequence[Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


class Three:
    """The cache under test, and the two that stand for it."""

    def __init__(self, storage: Storage = DENSE, policy: CachePolicy = POLICIES[1]) -> None:
        self.whole = BesideCache(BOTH, policy, LENGTH, storage=storage)
        self.parts: Pair = (
            KVCache(SHAPE, policy, LENGTH, storage=storage),
            KVCache(MORE, policy, LENGTH, storage=storage),
        )
        self.frames = 0

    def all(self, change: Callable[[KVCache], object]) -> None:
        """Change all three alike."""
        for cache in (self.whole, *self.parts):
            change(cache)

    def commit(self, count: int) -> None:
        numbers = range(self.frames, self.frames + count)
        own, more = made(SHAPE, numbers), made(MORE, numbers)
        self.whole.commit([*own, *more])
        self.parts[0].commit(own)
        self.parts[1].commit(more)
        self.frames += count

    def held(self) -> list[tuple[Tensor, ...]]:
        """Copies, since a history is valid until the next layer is read."""
        places = [(self.parts[0], layer) for layer in range(SHAPE.layers)]
        places += [(self.parts[1], layer) for layer in range(MORE.layers)]
        return [tuple(t.clone() for t in cache.history(layer)) for cache, layer in places]

    def check(self) -> None:
        """What is held, its bytes, and which frames it is of."""
        first, second = self.parts
        for layer, expected in enumerate(self.held()):
            assert same(self.whole.history(layer), expected), layer
        assert self.whole.bytes == first.bytes + second.bytes
        assert self.whole.offloaded_bytes == first.offloaded_bytes + second.offloaded_bytes
        assert self.whole.slots.kept_frames == first.slots.kept_frames == second.slots.kept_frames


STORAGES = st.sampled_from([DENSE, Packed(INT8)])
KINDS = st.sampled_from(["commit", "commit", "retain", "clear", "again"])


@settings(max_examples=40)
@given(st.lists(KINDS, max_size=9), STORAGES, st.sampled_from(POLICIES))
def test_any_changes_in_any_order(steps: list[str], storage: Storage, policy: CachePolicy) -> None:
    three = Three(storage, policy)
    three.commit(3)
    for step in steps:
        if step == "commit" and three.frames + 3 <= LENGTH:
            three.commit(3)
        elif step == "retain":
            odd = [frame for frame in three.whole.slots.kept_frames if frame % 2]
            three.all(lambda cache, kept=odd: cache.retain(kept))
        elif step in ("clear", "again"):
            again = three.whole.slots.kept_frames[-2:] if step == "again" else []
            three.all(lambda cache, frames=again: cache.restart(frames))
            three.frames = 0
            three.commit(2)
        three.check()


def test_a_snapshot_gives_both_back() -> None:
    three = Three()
    three.commit(3)
    early = three.whole.snapshot()
    expected = three.held()
    three.commit(3)
    three.commit(3)
    for cache in (three.whole, Three().whole):
        cache.restore(early)
        for layer, pair in enumerate(expected):
            assert same(cache.history(layer), pair), layer


def test_an_assumed_history_has_room_for_both() -> None:
    three = Three()
    three.all(lambda cache: cache.assume(4))
    assert three.whole.history(SHAPE.layers)[0].shape == three.parts[1].history(0)[0].shape


def test_both_move_and_both_are_dropped() -> None:
    three = Three()
    three.commit(3)
    three.whole.move("meta")
    assert {three.whole.history(layer)[0].device.type for layer in range(3)} == {"meta"}
    three.whole.drop()
    assert three.whole.bytes == three.whole.offloaded_bytes == 0
    with pytest.raises(AttributeError):
        three.whole.history(SHAPE.layers)
