"""The size of a merged cache follows the rollout's length, without changing the result.

A longer shot has more room; a snapshot of a shorter one must fit, and nothing else.
"""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import Tensor

from longtake.attention.cache.policy import WindowSink
from longtake.attention.history import HistoryCache, open_cache, planned_bytes
from longtake.attention.storage.dense import DENSE, Storage
from longtake.attention.storage.packed import Packed
from longtake.attention.storage.quantize import INT4, INT8
from longtake.attention.temp_cache.policy import REDUNDANT, TempCache
from longtake.samplers.denoiser import local_denoiser
from longtake.samplers.history.plan import planned_bytes as planned_of_rollout
from longtake.samplers.loop import Chunk, Loop, generate
from longtake.samplers.settings import RolloutSettings
from longtake.tests.support.attention.snapshots import through_json
from longtake.tests.support.attention.temp_caches import SHAPE, TOKENS, chunk_kv, fill, queries
from longtake.tests.support.tiny_model import TINY, random_dit, settings

POLICIES = {
    "redundant": TempCache(48, sink_frames=3, eviction=REDUNDANT),
    "alike, few": TempCache(8.5, sink_frames=2, eviction=REDUNDANT),
    "merged": TempCache(48, 0.9, sink_frames=3),
    "merged, few": TempCache(7, 0.9, 0.5, sink_frames=1, max_mass=1),
    "merged by k-means": TempCache(48, 0.9, index="k-means"),
}
STORAGES = {"dense": DENSE, "int8": Packed(INT8), "int4": Packed(INT4)}
MODEL = local_denoiser(random_dit(), TINY)


def opened(policy: TempCache, storage: Storage, length: int | None) -> HistoryCache:
    """An empty cache for a rollout of `length` latent frames."""
    return open_cache(SHAPE, policy, storage, length, "cpu")


def attended(cache: HistoryCache) -> list[Tensor]:
    """The attention of two active latent frames in every layer."""
    return [cache.attention(2)(layer, *queries()).clone() for layer in range(SHAPE.layers)]


def assert_same_bits(ours: list[Tensor], theirs: list[Tensor]) -> None:
    for a, b in zip(ours, theirs, strict=True):
        assert torch.equal(a, b)


@pytest.mark.each_value
@pytest.mark.parametrize("length", [1, 2, 9, 21, 63, None])
@pytest.mark.parametrize("storage", STORAGES)
@pytest.mark.parametrize("name", POLICIES)
def test_bytes_are_as_planned_and_never_more_than_the_length_fills(
    name: str, storage: str, length: int | None
) -> None:
    policy, how = POLICIES[name], STORAGES[storage]
    cache = opened(policy, how, length)
    planned = planned_bytes(SHAPE, policy, how, length)
    assert cache.bytes == planned
    fill(cache, 0, min(length or 9, 9), 3, 3)  # type: ignore[arg-type]
    assert cache.bytes == planned
    whole = planned_bytes(SHAPE, policy, how, None)
    assert planned < whole if length and length < policy.entry_frames else planned == whole


def test_a_short_rollout_takes_no_more_than_a_tenth_over_its_window() -> None:
    """21 latent frames of Wan 2.1 1.3B at 480x832, with the node's `balanced`."""
    shape = dataclasses.replace(
        SHAPE, layers=30, batch=2, heads=12, head_dim=128, rows=30, columns=52,
        dtype=torch.bfloat16, hold_rotated=False,
    )  # fmt: skip
    sizes = (planned_bytes(shape, policy, DENSE, 21)
             for policy in (POLICIES["redundant"], WindowSink(21, 3)))  # fmt: skip
    entries, window = sizes
    assert window < entries < 1.1 * window


@pytest.mark.each_value
@pytest.mark.parametrize("chunk", [1, 3])
@pytest.mark.parametrize("storage", STORAGES)
@pytest.mark.parametrize("name", POLICIES)
def test_what_is_kept_does_not_depend_on_the_length(name: str, storage: str, chunk: int) -> None:
    caches = [opened(POLICIES[name], STORAGES[storage], length) for length in (12, 15, None)]
    for first in range(0, 12, 3):
        for cache in caches:
            fill(cache, first, first + 3, 3, chunk)  # type: ignore[arg-type]
        found = [attended(cache) for cache in caches]
        assert_same_bits(found[0], found[2])
        assert_same_bits(found[1], found[2])


@pytest.mark.each_value
@pytest.mark.parametrize("storage", STORAGES)
@pytest.mark.parametrize("name", POLICIES)
def test_a_longer_or_shorter_rollout_goes_on_from_a_snapshot_bit_for_bit(
    name: str, storage: str
) -> None:
    policy, how = POLICIES[name], STORAGES[storage]
    whole, short = opened(policy, how, 15), opened(policy, how, 6)
    for cache in (whole, short):
        fill(cache, 0, 6, 3, 3)  # type: ignore[arg-type]
    longer, again = opened(policy, how, 15), opened(policy, how, 6)
    longer.restore(through_json(short.snapshot()))
    again.restore(through_json(longer.snapshot()))
    assert_same_bits(attended(again), attended(short))
    for cache in (whole, longer):
        fill(cache, 6, 15, 3, 3)  # type: ignore[arg-type]
    assert_same_bits(attended(longer), attended(whole))


def test_a_state_of_more_entries_than_there_is_room_for_is_refused() -> None:
    long, short = (opened(POLICIES["redundant"], DENSE, length) for length in (9, 6))
    fill(long, 0, 9, 3, 3)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="54 entries a head does not fit a cache of 36"):
        short.restore(long.snapshot())


def test_what_was_there_before_is_gone_after_a_restore() -> None:
    one, other = (opened(POLICIES["merged"], DENSE, length) for length in (6, 21))
    fill(one, 0, 2, 9, 1)  # type: ignore[arg-type]
    fill(other, 0, 9, 9, 3)  # type: ignore[arg-type]
    other.restore(one.snapshot())
    assert_same_bits(attended(other), attended(one))
    one.retain([])
    other.restore(one.snapshot())
    for cache in (one, other):
        cache.commit(chunk_kv(range(2, 4)))
    assert_same_bits(attended(other), attended(one))
    assert other.snapshot().tensors["mass.0"].shape[2] == 2 * TOKENS


def generate_chunks(chosen: RolloutSettings) -> list[Chunk]:
    """Generate all chunks."""
    return list(generate(chosen, MODEL))


@pytest.mark.parametrize("name", POLICIES)
def test_a_rollout_is_the_same_whatever_its_length_and_when_it_is_lengthened(name: str) -> None:
    chosen = settings(length=15, cache=POLICIES[name])
    whole, short = generate_chunks(chosen), dataclasses.replace(chosen, length=9)
    loop, longer = Loop(short, MODEL), Loop(chosen, MODEL)
    first = list(loop.chunks())
    assert {one.kv_bytes for one in first} == {planned_of_rollout(short, TINY, torch.float32)}
    for ours, theirs in zip(first, whole, strict=False):
        assert torch.equal(ours.latents, theirs.latents)
    longer.restore(loop.snapshot())
    rest = list(longer.chunks(first[longer.index :]))
    for ours, theirs in zip(rest, whole[len(first) :], strict=True):
        assert torch.equal(ours.latents, theirs.latents)
