"""Laws of the chunk producer alone: it needs a spec and a state, but no run."""

from __future__ import annotations

import gc
import weakref
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import torch

from longtake.attention.cache.kv_cache import KVCache
from longtake.attention.cache.policy import WindowSink
from longtake.samplers.denoiser import local_denoiser
from longtake.samplers.guidance import cfg
from longtake.samplers.loop import Chunk, generate
from longtake.samplers.settings import TimedGuidance
from longtake.stream.journal.journal import Journal
from longtake.stream.rollout.producer import ChunkProducer
from longtake.stream.rollout.run_state import RunState
from longtake.stream.rollout.spec import RolloutSpec
from longtake.tests.support.model_hosts import model_with_hooks
from longtake.tests.support.tiny_model import TINY, random_dit, settings

MODEL = local_denoiser(random_dit(), TINY)


def spec_with_chunks(folder: Path, count: int, **changes: Any) -> tuple[RolloutSpec, list[Chunk]]:
    """A spec whose journal holds the first `count` chunks, and all chunks of the rollout."""
    made = settings(length=24, cache=WindowSink(5, 1))
    spec = RolloutSpec(made, MODEL, "model", Journal(folder), **changes)
    chunks = list(generate(made, MODEL))
    for chunk in chunks[:count]:
        spec.journal.write(spec.key(chunk.index), {"latents": chunk.latents}, {})
    return spec, chunks


def test_a_producer_continues_after_stored_chunks_with_the_same_bits(tmp_path: Path) -> None:
    spec, whole = spec_with_chunks(tmp_path, 5)
    producer = ChunkProducer(spec, RunState(spec), 5)
    for ours, expected in zip(producer.chunks, whole[5:], strict=True):
        assert ours.index == expected.index and torch.equal(ours.latents, expected.latents)
    assert producer.notice is None


def test_a_recache_is_announced_and_moves_the_chain(tmp_path: Path) -> None:
    spec, whole = spec_with_chunks(tmp_path, 5, resume="recache")
    state = RunState(spec)
    producer = ChunkProducer(spec, state, 5)
    [chunk] = islice(producer.chunks, 1)
    assert producer.notice is not None and "from the window alone" in producer.notice
    assert state.settings.recache_frames == (15,) and state.chain.key(5) != spec.key(5)
    assert state.chain.key(4) == spec.key(4)
    assert not torch.equal(chunk.latents, whole[5].latents)


@pytest.mark.parametrize("smaller", [False, True])
def test_a_producer_that_is_left_frees_its_caches_at_once(tmp_path: Path, smaller: bool) -> None:
    """The next one asks for its memory at once, and no garbage collector runs between."""
    spec, _ = spec_with_chunks(tmp_path, 0)
    gc.disable()
    try:
        producer = ChunkProducer(spec, RunState(spec), 0, smaller=smaller)
        next(producer.chunks)
        caches = [weakref.ref(cache) for cache in producer.loop.branches.caches]
        assert caches and all(cache() is not None for cache in caches)
        del producer
        assert all(cache() is None for cache in caches)
    finally:
        gc.enable()


def test_a_producer_is_outdated_by_other_branches_and_by_dropped_caches(tmp_path: Path) -> None:
    caches: list[KVCache] = []
    spec, _ = spec_with_chunks(tmp_path, 0)
    spec = replace(spec, model=model_with_hooks(MODEL, on_register=caches.append))
    state = RunState(spec)
    producer = ChunkProducer(spec, state, 0)
    next(producer.chunks)
    assert not producer.is_outdated(1)
    plain = state.settings
    state.branch(1, plain.with_guidance(TimedGuidance(3, cfg(2.0))))
    assert producer.is_outdated(1)
    state.branch(1, plain)
    caches[0].drop()
    assert producer.is_outdated(1)
