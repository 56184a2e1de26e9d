"""What holds of every way to keep a history and to attend to it, together: drawn at random, since
two parts that hold alone may not beside each other.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from hypothesis import given, reject
from hypothesis import strategies as st

from longtake.attention.cache.by_layer.dummy_heads import DummyHeads
from longtake.attention.cache.by_layer.tether import TetherCache
from longtake.attention.cache.placed_windows import (
    AnchorWindow,
    DistantSink,
    SharedWindow,
    WaveWindow,
)
from longtake.attention.cache.policy import FullHistory, MostAttended, WindowSink
from longtake.attention.sparse.settings import SparseCross, SparseSelf, Sparsity
from longtake.attention.storage.dense import DENSE
from longtake.attention.storage.packed import Packed
from longtake.attention.storage.quantize import INT4, INT8
from longtake.attention.temp_cache.policy import EVICTIONS, TempCache
from longtake.errors import BadInput
from longtake.samplers.denoiser import local_denoiser
from longtake.samplers.feature_caching import FeatureCaching
from longtake.samplers.guidance import SINK, Guidance, cfg, vanilla
from longtake.samplers.loop import Chunk, Loop, generate
from longtake.samplers.rules.anchor import Anchor
from longtake.samplers.rules.memory import MemoryRules
from longtake.samplers.rules.positions import TopAligned
from longtake.samplers.rules.reading import FarReading, NewestFrames, PastWeight, RecencyBias
from longtake.samplers.schedule.levels import flow_ladder
from longtake.samplers.schedule.rows import causal_chunks, rolling
from longtake.samplers.settings import RolloutSettings
from longtake.tests.support.laws import examples
from longtake.tests.support.tiny_model import TINY, random_dit, settings, timeline

DIT = random_dit()
LENGTH = 15
SCHEDULES = {
    "chunks": causal_chunks(flow_ladder(2, 3.0), 3),
    "rolling": rolling(flow_ladder(3, 3.0)),
}

TEMP_CACHES = st.builds(
    TempCache,
    st.integers(5, 9),
    st.sampled_from([0.3, 0.9, 1.01]),
    st.just(0.0),
    st.integers(0, 2),
    st.sampled_from([None, 4, 12]),
    eviction=st.sampled_from(EVICTIONS),
    index=st.sampled_from(["exact", "int8", "lsh", "k-means"]),
    max_mass=st.sampled_from([None, 1]),
)
OTHERS = st.sampled_from(
    [
        FullHistory(),
        WindowSink(6, 1),
        MostAttended(6, 1),
        MostAttended(6, 1, per_head=True),
        TetherCache(6, 1),
        TetherCache(6, 2, 2, alignment=0.0),
        DummyHeads(6, 1),
        DistantSink(6, 1),
        SharedWindow(9, 1),
        WaveWindow(9, 1),
        AnchorWindow(6, 1),
    ]
)
BLOCKS = st.builds(
    SparseSelf,
    st.sampled_from([0.2, 0.5]),
    st.sampled_from([0.0, 0.5]),
    st.sampled_from([(), (0,)]),
    st.sampled_from([0.0, 0.85]),
    min_keys=st.just(0),
    order=st.sampled_from(["time", "lsh", "k-means"]),
    recent_frames=st.sampled_from([1, 3]),
)
PROMPTS = st.sampled_from([None, SparseCross(from_tokens=0), SparseCross(True, 2, from_tokens=0)])

RULES = st.just(MemoryRules()) | st.builds(
    MemoryRules,
    commit=st.none() | st.builds(NewestFrames, st.integers(0, 5)),
    positions=st.none() | st.just(TopAligned(12)),
    recency=st.none() | st.just(RecencyBias()),
    far=st.none() | st.builds(FarReading, st.integers(1, 4), st.integers(0, 2), st.just(0.5)),
    past=st.none() | st.builds(PastWeight, st.sampled_from([0.0, 0.3, 2.0]), st.integers(1, 2)),
)


@st.composite
def rollouts(draw: Any) -> RolloutSettings:
    """Settings that are not refused."""
    try:
        return settings(
            SCHEDULES[draw(st.sampled_from([*SCHEDULES]))],
            LENGTH,
            prompts=timeline(0, 6),
            cache=draw(st.one_of(TEMP_CACHES, TEMP_CACHES, OTHERS)),
            storage=draw(st.sampled_from([DENSE, Packed(INT8), Packed(INT4)])),
            sparsity=Sparsity(draw(st.none() | BLOCKS), draw(PROMPTS)),
            guidance=draw(st.sampled_from([Guidance(), cfg(2.0), vanilla(1.5, SINK)])),
            on_prompt_change=draw(st.sampled_from(["keep", "re-cache", "flush"])),
            memory=draw(RULES),
            anchor=draw(st.sampled_from([None, Anchor(0.5)])),
            feature_caching=draw(st.sampled_from([None, FeatureCaching(0.5)])),
        )
    except BadInput:
        reject()


def made(chosen: RolloutSettings, finished: list[Chunk] | None = None) -> torch.Tensor:
    """The latents of all chunks after `finished`."""
    return latents([*generate(chosen, local_denoiser(DIT, TINY), finished or [])])


def latents(chunks: list[Chunk]) -> torch.Tensor:
    """Of all of them, (f, c, h, w)."""
    return torch.cat([chunk.latents for chunk in chunks])


@examples(5)
@given(chosen=rollouts(), done=st.integers(1, 4))
def test_a_rollout_goes_on_with_the_same_bits(chosen: RolloutSettings, done: int) -> None:
    """From its chunks alone, and from a snapshot, wherever it was left."""
    loop, other = (Loop(chosen, local_denoiser(DIT, TINY)) for _ in range(2))
    chunks = loop.chunks()
    first = [next(chunks) for _ in range(done)]
    snapshot, index = loop.snapshot(), loop.index
    rest = latents([*chunks])
    other.restore(snapshot)
    assert torch.equal(latents([*other.chunks(first[index:])]), rest)
    assert torch.equal(made(chosen, first), rest)


@examples(5)
@given(chosen=rollouts())
def test_less_memory_for_the_same_is_the_same(chosen: RolloutSettings) -> None:
    assert torch.equal(made(replace(chosen, hold_rotated=False)), made(chosen))


@examples(5)
@given(chosen=rollouts())
def test_reading_every_block_and_merging_padding_is_dense(chosen: RolloutSettings) -> None:
    every = SparseSelf(1.0, 0.0, (), 0.0, min_keys=0)
    if chosen.sparsity.self_sparsity is not None:
        every = replace(every, order=chosen.sparsity.self_sparsity.order)
    dense = made(replace(chosen, sparsity=Sparsity()))
    sparse = made(replace(chosen, sparsity=Sparsity(every, SparseCross(from_tokens=0))))
    assert (sparse - dense).square().mean() < 1e-4 * dense.var()
