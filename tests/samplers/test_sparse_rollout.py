"""Rollouts with merged caches and sparse attention against plain ones."""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from typing import Any

import pytest
import torch

from longtake.attention.cache.by_layer.heavy_hitters import PerHeadCache
from longtake.attention.cache.by_layer.tether import TetherCache
from longtake.attention.cache.policy import FullHistory, MostAttended, WindowSink
from longtake.attention.sparse.settings import SparseCross, SparseSelf, Sparsity
from longtake.attention.storage.codec import Codec
from longtake.attention.storage.packed import Packed
from longtake.attention.storage.quantize import INT4, INT8
from longtake.attention.temp_cache.policy import EVICTIONS, REDUNDANT, TempCache
from longtake.errors import BadInput
from longtake.samplers.denoiser import local_denoiser
from longtake.samplers.guidance import SINK, Guidance, cfg, extend, last, temporal, vanilla
from longtake.samplers.history.plan import cache_plans, planned_bytes
from longtake.samplers.history.sparse import SparseCaches
from longtake.samplers.loop import Chunk, Loop, generate
from longtake.samplers.schedule.levels import flow_ladder
from longtake.samplers.schedule.rows import StaggeredSchedule, causal_chunks, pyramid, rolling
from longtake.samplers.settings import RolloutSettings
from longtake.stream.journal.chain import Chain
from longtake.tests.support.tiny_model import TINY, random_dit, settings

DIT = random_dit()
EVERY_BLOCK = SparseSelf(1.0, 0.0, (), 0.0, min_keys=0)
FEW_BLOCKS = SparseSelf(0.3, 0.0, (), 0.0, min_keys=0, recent_frames=1)

CACHES = [WindowSink(9, 1), TempCache(5, 0.9, index="k-means"), TempCache(5, eviction=REDUNDANT)]


def made(chosen: RolloutSettings, finished: list[Chunk] | None = None) -> list[Chunk]:
    """All chunks after `finished`."""
    return list(generate(chosen, local_denoiser(DIT, TINY), finished or []))


def latents(chunks: list[Chunk]) -> torch.Tensor:
    """All of them, (f, c, h, w)."""
    return torch.cat([chunk.latents for chunk in chunks])


def chosen(**changes: Any) -> RolloutSettings:
    """Twelve latent frames under guidance."""
    return settings(length=12, guidance=cfg(2.0), **changes)


def test_a_merged_cache_that_never_merges_makes_the_same_video_bit_for_bit() -> None:
    dense = made(chosen(cache=FullHistory()))
    for policy in (TempCache(12, 1.01), TempCache(12, eviction=REDUNDANT)):
        assert torch.equal(latents(dense), latents(made(chosen(cache=policy))))


def test_a_merged_cache_takes_the_planned_bytes_whatever_the_length() -> None:
    for length, eviction in product((6, 12), EVICTIONS):
        policy = TempCache(4, 0.9, sink_frames=1, eviction=eviction)
        s = replace(chosen(cache=policy), length=length)
        planned = planned_bytes(s, TINY, torch.float32)
        assert {chunk.kv_bytes for chunk in made(s)} == {planned}


def test_where_nothing_is_faster_attention_is_the_dense_one_itself() -> None:
    s = chosen(sparsity=Sparsity(SparseSelf(), SparseCross(from_tokens=0)))
    plans = cache_plans(s, TINY, torch.float32)
    caches = [plan.open(12, torch.device("cpu")) for plan in plans]
    sparse = SparseCaches(s, plans, caches)
    attention = caches[0].attention(1)
    assert sparse.over(0, attention, [0.5]) is attention and sparse.stats is None


@pytest.mark.some_cases(2)
@pytest.mark.parametrize("codec", [INT8, INT4])
@pytest.mark.parametrize(
    "policy", [TempCache(5, 0.9, max_mass=1), TempCache(5, eviction=REDUNDANT)]
)
def test_entries_in_few_bits_are_replayed_and_restored_bit_for_bit(
    policy: TempCache, codec: Codec
) -> None:
    s = chosen(cache=policy, storage=Packed(codec))
    whole = made(s)
    assert {one.kv_bytes for one in whole} == {planned_bytes(s, TINY, torch.float32)}
    close = latents(made(chosen(cache=policy)))
    assert 0 < (latents(whole) - close).square().mean() < 0.1 * close.var()
    assert torch.equal(latents(made(s, whole[:2])), latents(whole[2:]))
    loop, other = (Loop(s, local_denoiser(DIT, TINY)) for _ in range(2))
    chunks = loop.chunks()
    first = [next(chunks), next(chunks)]
    other.restore(loop.snapshot())
    rest = list(other.chunks(first[loop.index :]))
    assert torch.equal(latents(rest), latents(list(chunks)))


@pytest.mark.parametrize("order", ["time", "lsh", "k-means"])
@pytest.mark.parametrize("cache", [FullHistory(), WindowSink(6, 1), TempCache(6, 0.9)])
def test_reading_every_block_and_merging_padding_changes_nothing(cache: Any, order: str) -> None:
    plain = made(chosen(cache=cache))
    every = Sparsity(replace(EVERY_BLOCK, order=order), SparseCross(from_tokens=0))
    sparse = made(chosen(cache=cache, sparsity=every))
    torch.testing.assert_close(latents(sparse), latents(plain), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("index", ["lsh", "k-means"])
def test_blocks_of_entries_in_few_bits_are_of_rotated_keys(index: str) -> None:
    """Their codes, by which blocks are made, are read while a pass holds rotated keys."""
    cache = TempCache(6, 0.9, index=index)
    dense = made(chosen(cache=cache, storage=Packed(INT8)))
    every = Sparsity(replace(EVERY_BLOCK, order=index))
    sparse = made(chosen(cache=cache, storage=Packed(INT8), sparsity=every))
    error = (latents(sparse) - latents(dense)).square().mean() / latents(dense).var()
    assert error < 1e-6


@pytest.mark.parametrize("cache", CACHES)
@pytest.mark.parametrize("order", ["time", "k-means"])
def test_replayed_is_uninterrupted_bit_for_bit(cache: Any, order: str) -> None:
    s = chosen(
        cache=cache,
        sparsity=Sparsity(replace(FEW_BLOCKS, order=order), SparseCross(True, from_tokens=0)),
    )
    whole = made(s)
    assert not torch.equal(latents(whole), latents(made(chosen(cache=cache))))
    for done in (1, 3):
        rest = made(s, whole[:done])
        assert torch.equal(latents(rest), latents(whole[done:]))


@pytest.mark.parametrize("cache", CACHES)
@pytest.mark.parametrize("order", ["time", "k-means"])
def test_restored_from_a_snapshot_is_uninterrupted_bit_for_bit(cache: Any, order: str) -> None:
    s = chosen(
        cache=cache, sparsity=Sparsity(replace(FEW_BLOCKS, order=order), SparseCross(from_tokens=0))
    )
    loop = Loop(s, local_denoiser(DIT, TINY))
    chunks = loop.chunks()
    whole = [next(chunks), next(chunks), next(chunks)]
    snapshot = loop.snapshot()
    other = Loop(s, local_denoiser(DIT, TINY))
    other.restore(snapshot)
    rest = list(other.chunks(whole[loop.index :]))
    assert torch.equal(latents(rest), latents(list(chunks)))


def test_a_part_cut_out_of_a_merged_history_is_refused_and_one_passed_again_is_not() -> None:
    with pytest.raises(BadInput, match="every head reads other frames"):
        settings(cache=TempCache(6), guidance=extend(cfg(2.0), temporal(0.5, last(4))))
    settings(cache=TempCache(6), guidance=extend(cfg(2.0), temporal(0.5, last(4, exact=True))))


@pytest.mark.parametrize("eviction", EVICTIONS)
@pytest.mark.parametrize("reach", [None, 4])
def test_guidance_finds_the_sink_in_a_merged_history_when_frames_have_left(
    eviction: str, reach: int | None
) -> None:
    policy = TempCache(5, 1.01, sink_frames=2, eviction=eviction, reach_frames=reach)
    s = settings(length=12, cache=policy, guidance=vanilla(1.5, SINK))
    whole = made(s)
    assert torch.equal(latents(made(s, whole[:2])), latents(whole[2:]))
    plain = made(settings(length=12, cache=policy, guidance=Guidance()))
    assert not torch.equal(whole[3].latents, plain[3].latents)


@pytest.mark.parametrize("shift", [1.0, 8.0])
@pytest.mark.parametrize("kind", ["chunks", "rolling", "pyramid"])
def test_the_first_steps_of_each_latent_frame_are_dense_whatever_the_noise(
    kind: str, shift: float
) -> None:
    """A quarter of four steps is one: all others read less than everything; commits, which are
    always dense, do not count.
    """
    ladder = flow_ladder(4, shift)
    schedules = {
        "chunks": causal_chunks(ladder),
        "rolling": rolling(ladder),
        "pyramid": pyramid(ladder),
    }
    later: dict[float, float] = {}
    for share in (0.0, 0.25, 0.26, 1.0):
        self_sparsity = SparseSelf(0.3, share, (), 0.0, min_keys=0, recent_frames=1)
        s = settings(schedules[kind], 24, cache=WindowSink(9, 1), sparsity=Sparsity(self_sparsity))
        stats = made(s)[-1].sparse
        assert stats is not None
        later[share] = stats.density
    assert later[0.0] < later[0.25] < later[0.26] < later[1.0] == pytest.approx(1)


def test_where_each_head_keeps_its_own_only_what_all_hold_has_a_frame() -> None:
    """So the newest frame is not pinned where a head has another one in its place."""
    s = chosen(cache=MostAttended(6, 1, per_head=True), sparsity=Sparsity(FEW_BLOCKS))
    loop = Loop(s, local_denoiser(DIT, TINY))
    [*loop.chunks()]
    [cache] = loop.branches.caches
    assert isinstance(cache, PerHeadCache)
    for layer in range(TINY.num_layers):
        held = cache._layout.kept_frames[layer].T.tolist()
        assert cache.rotated_keys.frames(layer) == [
            a if len({a, *b}) == 1 else -1 for a, *b in held
        ]
    assert cache.rotated_keys.frames(0)[0] == 0 and -1 in cache.rotated_keys.frames(0)
    with pytest.raises(BadInput, match="the order of lsh sorts keys that all heads have"):
        replace(s, sparsity=Sparsity(replace(FEW_BLOCKS, order="lsh")))


@pytest.mark.parametrize(
    "cache",
    [
        TempCache(5),
        TempCache(5, eviction=REDUNDANT),
        MostAttended(5, 1, per_head=True),
        TetherCache(5, 1),
    ],
)
def test_a_schedule_that_says_how_far_back_chunks_look_needs_whole_latent_frames(
    cache: Any,
) -> None:
    """Slots are then not frames: it read past them, or put keys where they never stood."""
    schedule = StaggeredSchedule(flow_ladder(3, 3.0), 1, 1, reach=(2, 1))
    assert made(settings(schedule, 6, cache=MostAttended(5, 1)))
    with pytest.raises(BadInput, match="how far back chunks look, and every head reads"):
        settings(schedule, 6, cache=cache)


def test_sparse_attention_is_part_of_what_names_a_chunk() -> None:
    names = {
        Chain(chosen(sparsity=one), "model").key(0)
        for one in (
            Sparsity(),
            Sparsity(FEW_BLOCKS),
            Sparsity(EVERY_BLOCK, SparseCross(from_tokens=0)),
        )
    }
    assert len(names) == 3
    policies = (TempCache(6), TempCache(6, 0.9), TempCache(6, max_mass=1))
    assert len({Chain(chosen(cache=one), "model").key(0) for one in policies}) == 3
