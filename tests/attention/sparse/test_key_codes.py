"""Key codes after the history is forgotten and its frames are numbered again."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from longtake.attention.ann.buckets import Buckets
from longtake.attention.ann.kmeans import OnlineKMeans
from longtake.attention.ann.lsh import RandomProjection
from longtake.attention.cache.kv_cache import KVCache
from longtake.attention.cache.policy import WindowSink
from longtake.attention.sparse.key_codes import SlotCodes
from longtake.attention.sparse.settings import SparseSelf, Sparsity
from longtake.attention.storage.packed import Packed
from longtake.attention.storage.quantize import INT8
from longtake.samplers.denoiser import local_denoiser
from longtake.samplers.loop import Loop, generate
from longtake.samplers.rules.memory import MemoryRules
from longtake.samplers.rules.reading import PastWeight
from longtake.tests.support.attention.sparse_keys import SHAPE, kv
from longtake.tests.support.tiny_model import TINY, random_dit, settings, timeline


def buckets(kind: str) -> Buckets:
    """Buckets that have learnt nothing."""
    return RandomProjection(SHAPE.heads, 12, bits=3) if kind == "lsh" else OnlineKMeans(8)


@pytest.mark.parametrize("kind", ["lsh", "k-means"])
@pytest.mark.parametrize("frames", [3, 4, 9])
def test_what_is_committed_again_is_coded_again(kind: str, frames: int) -> None:
    """A prompt switch with `re-cache` commits other keys under the same frame numbers."""
    cache, fresh = (KVCache(SHAPE, WindowSink(4, 1), 20) for _ in range(2))
    codes, expected = SlotCodes(cache, buckets(kind)), SlotCodes(fresh, buckets(kind))
    for frame in range(frames):
        cache.commit(kv(frame))
        codes.update()
    again = len(cache.kept_frames)
    cache.restart()
    for frame in range(50, 50 + again):
        for one in (cache, fresh):
            one.commit(kv(frame))
    for one in (codes, expected):
        one.update()
    held = cache.kept_frames
    for layer in range(SHAPE.layers):
        assert torch.equal(codes.of_layer(layer, held), expected.of_layer(layer, held))
    fresh_buckets = buckets(kind)
    restored = SlotCodes(cache, fresh_buckets)
    restored.restore(codes.snapshot())
    fresh_buckets.assign = None  # nothing is coded again
    restored.update()


@pytest.mark.parametrize("order", ["lsh", "k-means"])
def test_a_rollout_re_cached_at_a_switch_is_replayed_and_restored_bit_for_bit(order: str) -> None:
    sparsity = Sparsity(SparseSelf(0.3, 0.0, (), 0.0, min_keys=0, recent_frames=1, order=order))
    chosen = settings(
        length=15, cache=WindowSink(9, 1), on_prompt_change="re-cache", prompts=timeline(0, 6),
        sparsity=sparsity,
    )  # fmt: skip
    model = local_denoiser(random_dit(), TINY)
    whole = list(generate(chosen, model))
    loop, other = Loop(chosen, model), Loop(chosen, model)
    first = [chunk for chunk, _ in zip(loop.chunks(), range(4), strict=False)]
    other.restore(loop.snapshot())
    for rest, done in (
        (list(generate(chosen, model, whole[:3])), 3),
        (list(other.chunks(first[loop.index : 4])), 4),
    ):
        for ours, theirs in zip(rest, whole[done:], strict=True):
            assert torch.equal(ours.latents, theirs.latents)


@pytest.mark.parametrize("order", ["lsh", "k-means"])
def test_a_past_that_nobody_reads_needs_no_codes(order: str) -> None:
    """The first chunk under a new prompt reads nothing before it; a coded cache fetches nothing."""
    sparsity = Sparsity(SparseSelf(0.3, 0.0, (), 0.0, min_keys=0, recent_frames=1, order=order))
    chosen = settings(
        length=9, cache=WindowSink(9), storage=Packed(INT8), prompts=timeline(0, 6),
        memory=MemoryRules(past=PastWeight(0.0)), sparsity=sparsity,
    )  # fmt: skip
    whole, alone = (
        [*generate(shot, local_denoiser(random_dit(), TINY))]
        for shot in (chosen, replace(chosen, sparsity=Sparsity()))
    )
    torch.testing.assert_close(whole[2].latents, alone[2].latents)
