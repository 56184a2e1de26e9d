"""The error of coded keys and values that the demo model computes from a rendered shot."""

from __future__ import annotations

import random

import pytest
import torch

from longtake.attention.cache.kv_cache import KVCache
from longtake.attention.cache.policy import FullHistory
from longtake.attention.storage.codec import Codec, decode
from longtake.attention.storage.quantize import FLOAT8, INT4, INT8
from longtake.benchmarks._shared.demo import demo_vae
from longtake.benchmarks._shared.history import HistoryBench
from longtake.model.preset import DEMO
from longtake.training.world.attributes import random_values
from longtake.training.world.dataset import encode_shots
from longtake.training.world.scene import Shot

FRAMES = 6


@pytest.fixture(scope="module")
def history() -> KVCache:
    """The cache of a clip of the demo's world, committed in chunks."""
    rng = random.Random(7)
    shot = Shot(((0, random_values(rng)),), rng.randrange(2**31))
    latents = encode_shots(demo_vae(), [shot], FRAMES, DEMO.width)[:1].float()
    bench = HistoryBench()
    cache = KVCache(bench.shape, FullHistory(), FRAMES)
    for first in range(0, FRAMES, DEMO.chunk_frames):
        bench.commit(cache, latents[:, first : first + DEMO.chunk_frames])
    return cache


@pytest.mark.parametrize(
    ("codec", "keys", "values"),
    [(FLOAT8, 0.03, 0.03), (INT8, 0.006, 0.01), (INT4, 0.06, 0.13)],
    ids=["fp8", "int8", "int4"],
)
def test_errors_on_a_real_history_are_small(
    history: KVCache, codec: Codec, keys: float, values: float
) -> None:
    """The root mean square error is measured relative to the tensor's, in every layer."""
    tokens = history.shape.frame_tokens
    for layer in range(history.shape.layers):
        kept = [x.unflatten(1, (FRAMES, tokens)) for x in history.history(layer)]
        coded = [codec.encode(kept[0][:, f], kept[1][:, f]) for f in range(FRAMES)]
        parts = [torch.stack(part, 1) for part in zip(*coded, strict=True)]
        for x, back, limit in zip(
            kept, decode(codec, parts, history.shape), (keys, values), strict=True
        ):
            assert float((x - back).norm() / x.norm()) <= limit
