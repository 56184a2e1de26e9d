"""Snapshots of caches and of all branches: continuing from a snapshot changes no bit (law 9)."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from longtake.attention.cache.kv_cache import KVCache
from longtake.attention.cache.policy import CachePolicy, FullHistory, MemoryBank, WindowSink
from longtake.attention.history import open_cache
from longtake.attention.storage.dense import DENSE
from longtake.samplers.branches import Branches
from longtake.samplers.conditioning.known_frames import KnownFrame, KnownFrames
from longtake.samplers.current import CurrentSettings
from longtake.samplers.denoiser import local_denoiser
from longtake.samplers.guidance import Guidance, cfg, fractional, temporal, vanilla
from longtake.samplers.loop import Loop, by_chunk
from longtake.samplers.rules.anchor import Anchor
from longtake.samplers.schedule.context_noise import ContextNoise
from longtake.samplers.schedule.levels import flow_ladder
from longtake.samplers.schedule.rows import causal_chunks
from longtake.tests.support.attention.caches import SHAPE, chunk_kv, fill, policies
from longtake.tests.support.attention.snapshots import assert_same_histories, through_json
from longtake.tests.support.laws import examples
from longtake.tests.support.tiny_model import (
    TINY,
    randn,
    random_dit,
    settings,
    timeline,
)

MODEL = local_denoiser(random_dit(), TINY)
GIVEN = randn(TINY.out_channels, 4, 6, seed=4)


@examples(15)
@given(policy=policies(), before=st.integers(0, 12), after=st.integers(0, 6))
def test_a_cache_goes_on_from_its_snapshot_as_if_it_had_never_stopped(
    policy: CachePolicy, before: int, after: int
) -> None:
    first, second = (open_cache(SHAPE, policy, DENSE, 20, "cpu") for _ in range(2))
    fill(first, before)
    kept = first.snapshot()
    second.restore(through_json(kept))
    for cache in (first, second):
        for frame in range(before, before + after):
            cache.commit(chunk_kv([frame]))
    assert_same_histories(first, second)


def test_a_snapshot_is_nobody_elses() -> None:
    cache = KVCache(SHAPE, WindowSink(3))
    fill(cache, 3)
    kept = cache.snapshot()
    before = {name: tensor.clone() for name, tensor in kept.tensors.items()}
    cache.commit(chunk_kv([3]))
    assert kept.facts["kept"] == [0, 1, 2]
    assert all(torch.equal(tensor, before[name]) for name, tensor in kept.tensors.items())


def test_a_snapshot_fits_a_longer_rollout_and_no_shorter_window() -> None:
    short, longer, unplanned = (KVCache(SHAPE, FullHistory(), n) for n in (5, 9, None))
    fill(short, 5)
    kept = short.snapshot()
    for cache in (longer, unplanned):
        cache.restore(kept)
        assert cache.kept_frames == [0, 1, 2, 3, 4]
    with pytest.raises(ValueError, match="does not fit"):
        KVCache(SHAPE, WindowSink(3)).restore(kept)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"guidance": cfg(2.0)},
        {"guidance": vanilla(1.5)},
        {"guidance": temporal(0.5, scale=2.0)},
        {"guidance": fractional(1.5, 0.4)},
        {"context_noise": ContextNoise(0.3, ramp_frames=4)},
    ],
    ids=["plain", "cfg", "pure noise", "made anew", "fractional", "ramp"],
)
def test_all_branches_go_on_from_their_snapshot(changes: dict[str, Guidance]) -> None:
    """Chunk 2 after restoring a snapshot of two chunks equals chunk 2 of the uninterrupted run."""
    chosen = settings(length=9, cache=WindowSink(4, 1), prompts=timeline(0, 3), **changes)
    chunks = list(by_chunk(chosen.noise_rows()))
    straight, resumed = (Branches(CurrentSettings(chosen), MODEL) for _ in range(2))
    for branches in (straight, resumed):
        branches.claim()
    for rows in chunks[:2]:
        straight.use(chosen, rows[0].first)
        latents = randn(3, TINY.out_channels, 4, 6, seed=rows[0].first)
        straight.velocity(latents, rows[0])
        straight.commit(rows[0].first, latents)
    resumed.restore(through_json(straight.snapshot()))
    resumed.current.use_prompts(chosen, 3)
    row, x = chunks[2][0], randn(3, TINY.out_channels, 4, 6, seed=6)
    for branches in (straight, resumed):
        branches.use(chosen, 6)
    assert torch.equal(straight.velocity(x, row), resumed.velocity(x, row))


@pytest.mark.parametrize(
    "changes",
    [
        {"cache": MemoryBank(4, 1, 5, 1)},
        {"anchor": Anchor(0.5), "known_frames": KnownFrames((KnownFrame(0, GIVEN),))},
    ],
    ids=["a bank of more cells than frames", "an anchor beside a picture"],
)
@pytest.mark.parametrize("done", [1, 2])
def test_a_state_is_taken_from_the_first_chunk_on(changes: dict[str, Any], done: int) -> None:
    chosen = settings(causal_chunks(flow_ladder(2, 3.0), 2), 9, **changes)
    loop, other = Loop(chosen, MODEL), Loop(chosen, MODEL)
    chunks = loop.chunks()
    first = [next(chunks) for _ in range(done)]
    other.restore(through_json(loop.snapshot()))
    whole = list(Loop(chosen, MODEL).chunks())
    rest = list(other.chunks(first[loop.index :]))
    assert all(torch.equal(a.latents, b.latents) for a, b in zip(rest, whole[done:], strict=True))
