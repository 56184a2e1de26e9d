"""Frames in main memory or in files: the same bits, and exactly the planned bytes in each place."""

from __future__ import annotations

import dataclasses
import gc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from longtake.attention.cache.kv_cache import KVCache, planned_bytes, planned_offloaded
from longtake.attention.cache.policy import CachePolicy, FullHistory, WindowSink
from longtake.attention.delta.window import DeltaWindow
from longtake.attention.storage.archive import FrameArchive
from longtake.attention.storage.codec import AS_COMPUTED, Part, coded_frame_bytes
from longtake.attention.storage.dense import DENSE, Storage
from longtake.attention.storage.packed import Packed, with_placement
from longtake.attention.storage.placement import (
    ON_DEVICE,
    InMainMemory,
    OnDisk,
    Placement,
)
from longtake.attention.storage.quantize import FLOAT8, INT4, INT8
from longtake.samplers.denoiser import local_denoiser
from longtake.samplers.guidance import cfg
from longtake.samplers.history.plan import cache_plans
from longtake.samplers.history.plan import planned_bytes as planned
from longtake.samplers.loop import generate
from longtake.stream.journal.chain import Chain
from longtake.tests.support.attention.caches import SHAPE, TOKENS, chunk_kv, policies
from longtake.tests.support.attention.snapshots import assert_same_histories, through_json
from longtake.tests.support.laws import examples
from longtake.tests.support.stream.rollouts import MODEL, assert_same_bits
from longtake.tests.support.tiny_model import TINY, randn, random_dit, settings

STORAGES: list[Storage] = [DENSE, Packed(FLOAT8, 1), Packed(INT8, 2), Packed(INT4)]


@examples(25)
@given(
    policy=policies(),
    storage=st.sampled_from(STORAGES),
    chunks=st.lists(st.integers(1, 3), max_size=6),
    order=st.lists(st.integers(0, SHAPE.layers - 1), max_size=6),
)
def test_frames_in_main_memory_are_the_same_bits_in_whatever_order_layers_are_read(
    policy: CachePolicy, storage: Storage, chunks: list[int], order: list[int]
) -> None:
    near = KVCache(SHAPE, policy, 18, storage=storage)
    far = KVCache(SHAPE, policy, 18, storage=with_placement(storage, InMainMemory()))
    first = 0
    q, k, v = active()
    for count in chunks:
        for cache in (near, far):
            cache.commit(chunk_kv(range(first, first + count)))
        first += count
        for layer in order:
            ours, expected = (cache.attention(2)(layer, q, k, v) for cache in (far, near))
            assert torch.equal(ours, expected)
    assert_same_histories(far, near)
    again = KVCache(SHAPE, policy, 18, storage=with_placement(storage, InMainMemory()))
    again.restore(through_json(far.snapshot()))
    assert_same_histories(again, near)


def active() -> list[Tensor]:
    """q, k, v (b, s, n, d) of two active frames."""
    return [randn(1, 2 * TOKENS, 2, 12, seed=900 + i) for i in range(3)]


@pytest.mark.parametrize("storage", STORAGES)
def test_files_hold_the_same_bits_grow_and_go_with_the_cache(
    tmp_path: Path, storage: Storage
) -> None:
    near = KVCache(SHAPE, FullHistory(), storage=storage)
    far = KVCache(SHAPE, FullHistory(), storage=with_placement(storage, OnDisk(tmp_path / "kv")))
    for first in range(0, 69, 3):  # beyond the 64 that a history without end begins with
        for cache in (near, far):
            cache.commit(chunk_kv(range(first, first + 3)))
    assert_same_histories(far, near)
    files = [file for file in tmp_path.rglob("*.kv")]
    assert sum(file.stat().st_size for file in files) == far.offloaded_bytes
    far.drop()
    gc.collect()
    assert not [*tmp_path.rglob("*.kv")]


@pytest.mark.parametrize("storage", STORAGES)
@pytest.mark.parametrize("policy", [WindowSink(7, 2), FullHistory()])
def test_bytes_here_and_elsewhere_are_exactly_as_planned(
    tmp_path: Path, storage: Storage, policy: CachePolicy
) -> None:
    for where in (InMainMemory(), OnDisk(tmp_path)):
        chosen = with_placement(storage, where)
        cache = KVCache(SHAPE, policy, 12, storage=chosen)
        for frame in range(12):
            cache.commit(chunk_kv([frame]))
        assert cache.bytes == planned_bytes(SHAPE, policy, 12, chosen)
        assert cache.offloaded_bytes == planned_offloaded(SHAPE, policy, 12, chosen)
        codec = chosen.codec if isinstance(chosen, Packed) else AS_COMPUTED
        older = 12 if policy.limit is None else 7
        older -= chosen.recent_frames if isinstance(chosen, Packed) else 0
        assert cache.offloaded_bytes == SHAPE.layers * older * coded_frame_bytes(codec, SHAPE)


def test_a_long_history_elsewhere_leaves_two_layers_of_it_on_the_device() -> None:
    shape = dataclasses.replace(SHAPE, layers=30)
    near, far = (
        planned_bytes(shape, FullHistory(), 300, with_placement(DENSE, where))
        for where in (ON_DEVICE, InMainMemory())
    )
    assert far < near / 14


def test_what_was_fetched_in_advance_is_outdated_by_a_commit_into_a_full_window() -> None:
    """Reading the last layer prefetches the first, which has as many frames after the commit."""
    near, far = (
        KVCache(SHAPE, WindowSink(3), storage=with_placement(Packed(INT8), place))
        for place in (ON_DEVICE, InMainMemory())
    )
    for frame in range(8):
        for cache in (near, far):
            cache.commit(chunk_kv([frame]))
        assert_same_histories(far, near)


@pytest.mark.parametrize("of", ["layers", "archive"])
def test_copies_to_a_device_other_than_cuda_wait(of: str) -> None:
    """Others may read main memory after it was freed or written again; here `meta` is another."""
    queued, meta = list[object](), torch.device("meta")

    class Copies(TorchDispatchMode):
        def __torch_dispatch__(
            self, func: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            queued.extend([*args[2:], (kwargs or {}).get("non_blocking")])
            return func(*args, **(kwargs or {}))

    if of == "layers":
        tier = InMainMemory().open(2, [Part((2,), torch.float32)], (4, 1), torch.device("cpu"))
        tier.move(meta)
        read: Callable[[], object] = lambda: tier.fetch(0, range(4), range(4))  # noqa: E731
    else:
        archive = FrameArchive(SHAPE, INT8, 1, None, torch.device("cpu"))
        archive.put(0, chunk_kv([0]))
        archive.move(meta)
        read = lambda: archive.get(0)  # noqa: E731
    with Copies():
        read()
    assert not any(flag is True for flag in queued)


def test_a_layer_is_on_its_way_while_the_one_before_it_is_computed() -> None:
    """A prefetched layer has the content of the moment when the layer before it was read."""
    size = [Part((2,), torch.float32)]
    tier = InMainMemory().open(3, size, (4, 1), torch.device("cpu"))
    for layer, (part,) in enumerate(tier.layers):
        part.fill_(layer)
    assert tier.fetch(0, range(4), range(4))[0].eq(0).all()
    tier.layers[1][0].fill_(10)
    tier.layers[2][0].fill_(20)
    assert tier.fetch(1, range(4), range(4))[0].eq(1).all()
    assert tier.fetch(2, range(4), range(4))[0].eq(20).all()
    tier.stop_prefetch()
    assert tier.fetch(0, range(2), range(2))[0].eq(0).all()
    tier.layers[1][0].fill_(11)
    tier.stop_prefetch()
    assert tier.fetch(1, range(4), range(4))[0].eq(11).all()


@pytest.mark.parametrize("storage", STORAGES)
def test_a_rollout_is_the_same_wherever_its_cache_lies_and_has_the_same_address(
    tmp_path: Path, storage: Storage
) -> None:
    made, keys = [], []
    for where in (ON_DEVICE, InMainMemory(), OnDisk(tmp_path)):
        chosen = settings(length=9, cache=WindowSink(5, 1), storage=storage, placement=where)
        chunks = [*generate(chosen, MODEL)]
        assert chunks[-1].kv_bytes == planned(chosen, TINY, torch.float32)
        plans = cache_plans(chosen, TINY, torch.float32)
        assert any(plan.planned_offloaded(chosen.length) for plan in plans) == (where != ON_DEVICE)
        made.append(chunks)
        keys.append(Chain(chosen, "model").key(1))
    for other in made[1:]:
        assert_same_bits(other, made[0])
    assert len(set(keys)) == 1


@pytest.mark.parametrize("storage", STORAGES)
@pytest.mark.parametrize("window", [DeltaWindow(1), DeltaWindow(4, 1)])
def test_what_leaves_the_window_is_written_into_a_state_with_the_same_bits(
    tmp_path: Path, storage: Storage, window: DeltaWindow
) -> None:
    """With two rows, as text guidance has."""
    config = dataclasses.replace(TINY, state="delta")
    model = local_denoiser(random_dit(config), config)
    near, *others = (
        [*generate(settings(
            length=15, cache=window, guidance=cfg(3.0), storage=storage, placement=where
        ), model)]
        for where in (ON_DEVICE, InMainMemory(), OnDisk(tmp_path))
    )  # fmt: skip
    for far in others:
        assert_same_bits(far, near)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
@pytest.mark.parametrize("where", [InMainMemory()])
def test_prefetch_on_a_gpu_gives_the_bits_that_the_device_holds(where: Placement) -> None:
    near, far = (
        KVCache(SHAPE, WindowSink(6), device="cuda", storage=with_placement(Packed(INT8, 1), place))
        for place in (ON_DEVICE, where)
    )
    q, k, v = (x.cuda() for x in active())
    for frame in range(9):
        for cache in (near, far):
            cache.commit([(a.cuda(), b.cuda()) for a, b in chunk_kv([frame])])
        for _ in range(3):
            for layer in range(SHAPE.layers):
                ours, expected = (cache.attention(2)(layer, q, k, v) for cache in (far, near))
                assert torch.equal(ours, expected)
