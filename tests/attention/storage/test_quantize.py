"""Quantised keys and values: error bounds, bytes, and the store against a plain list of frames."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from longtake.attention.cache.kv_cache import KVCache, planned_bytes
from longtake.attention.cache.policy import CachePolicy, WindowSink
from longtake.attention.storage.codec import AS_COMPUTED, Codec, coded_frame_bytes, decode
from longtake.attention.storage.dense import DENSE
from longtake.attention.storage.packed import Packed
from longtake.attention.storage.quantize import FLOAT8, INT4, INT8, Integers, group_size, groups
from longtake.attention.storage.shape import CacheShape
from longtake.benchmarks._shared.allocator import allocator_peak
from longtake.tests.support.attention.caches import (
    SHAPE,
    TOKENS,
    chunk_kv,
    frame_list,
    naive_attention,
    policies,
)
from longtake.tests.support.attention.snapshots import assert_same_histories, through_json
from longtake.tests.support.laws import examples
from longtake.tests.support.tiny_model import randn

DEMO = CacheShape(6, 1, 4, 48, 4, 6, 3, torch.bfloat16)
WAN_1_3B = CacheShape(30, 1, 12, 128, 30, 52, 3, torch.bfloat16)
WAN_14B = CacheShape(40, 1, 40, 128, 30, 52, 3, torch.bfloat16)
DEMO_FLOAT = dataclasses.replace(DEMO, dtype=torch.float32)
CODECS = {"fp8": FLOAT8, "int8": INT8, "int4": INT4, "as computed": AS_COMPUTED}


def like_real_keys(tokens: int, heads: int, width: int) -> Tensor:
    """Keys with a mean and spread per channel, one channel an outlier (KIVI, figure 2)."""
    spread = 0.2 + randn(1, 1, heads, width, seed=3).abs()
    spread[..., 1] *= 20
    return randn(2, tokens, heads, width, seed=1) * spread + 3 * randn(1, 1, heads, width, seed=2)


def round_trip(codec: Codec, k: Tensor, v: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Store one frame's keys and values and read them back."""
    shape = dataclasses.replace(
        DEMO, heads=k.shape[2], head_dim=k.shape[3], rows=1, columns=k.shape[1], dtype=dtype
    )
    parts = codec.encode(k, v)
    for made, part in zip(parts, codec.parts(shape), strict=True):
        assert (made.shape[1:], made.dtype) == (part.size, part.dtype)
    back_k, back_v = decode(codec, [part.unsqueeze(1) for part in parts], shape)
    return back_k[:, 0], back_v[:, 0]


def worst_step(x: Tensor, bits: int, *, about_zero: bool) -> float:
    """Half a step of the finest even grid over x's values, plus float16's rounding of the step."""
    reach = 2 * float(x.abs().max()) if about_zero else float(x.max() - x.min())
    codes = 2**bits - (2 if about_zero else 1)
    return 0.5 * reach / codes + (float(x.abs().max()) + reach) * 2.0**-10


@pytest.mark.parametrize("tokens", [3, 24, 65])
@pytest.mark.parametrize(("codec", "bits"), [(INT8, 8), (INT4, 4)])
def test_every_key_is_within_half_a_step_of_its_channels_group(
    codec: Integers, bits: int, tokens: int
) -> None:
    """KIVI: a channel alone determines its scale, however large its neighbours are."""
    k = like_real_keys(tokens, 2, 12)
    back, _ = round_trip(codec, k, k, torch.float32)
    size = group_size(tokens, codec.key_tokens)
    for b, head, channel in [(0, 0, 0), (0, 1, 1), (1, 1, 7)]:
        of_channel, found = k[b, :, head, channel], back[b, :, head, channel]
        for first in range(0, tokens, size):
            x, y = of_channel[first : first + size], found[first : first + size]
            bound = max(
                worst_step(x, bits, about_zero=not codec.zero_points),
                float(x.abs().max()) / 112 if codec.zero_points else 0.0,
            )
            assert float((x - y).abs().max()) <= bound


@pytest.mark.parametrize("codec", [INT8, INT4])
def test_every_value_is_within_half_a_step_of_its_tokens_group(codec: Integers) -> None:
    v = randn(2, 24, 4, 48, seed=5) * torch.logspace(-2, 1, 24).view(1, 24, 1, 1)
    _, back = round_trip(codec, v, v, torch.float32)
    size = group_size(192, codec.value_channels)
    for token in (0, 11, 23):
        for x, y in zip(
            v[0, token].flatten().split(size), back[0, token].flatten().split(size), strict=True
        ):
            bound = worst_step(x, codec.bits, about_zero=not codec.zero_points)
            assert float((x - y).abs().max()) <= bound + float(x.abs().max()) / 224


def test_float8_keeps_three_bits_of_mantissa_at_any_scale() -> None:
    x = randn(1, 24, 4, 48) * torch.tensor([1e-6, 1.0, 1e3, 1e5]).view(1, 1, 4, 1)
    back, _ = round_trip(FLOAT8, x, x, torch.float32)
    largest = x.abs().amax((1, 3), keepdim=True)
    assert bool(((back - x).abs() <= x.abs() * 2.0**-4 + largest * 2.0**-17).all())


@pytest.mark.parametrize("codec", CODECS.values(), ids=CODECS)
def test_extreme_values_are_stored_finite(codec: Codec) -> None:
    for value in (0.0, 1e-9, 6e4, -6e4):
        x = torch.full((1, 5, 2, 12), value)
        for back in round_trip(codec, x, x, torch.float32):
            torch.testing.assert_close(back, x, rtol=0.01, atol=4e-5)


@pytest.mark.parametrize("shape", [DEMO, WAN_1_3B, WAN_14B], ids=["demo", "1.3B", "14B"])
def test_the_quantised_part_is_at_most_53_and_30_percent_of_bf16(shape: CacheShape) -> None:
    dense = 2 * shape.frame_values * shape.dtype.itemsize
    assert coded_frame_bytes(FLOAT8, shape) <= 0.53 * dense
    assert coded_frame_bytes(INT8, shape) <= 0.53 * dense
    assert coded_frame_bytes(INT4, shape) <= 0.30 * dense


@given(count=st.integers(1, 5000), most=st.integers(1, 130))
@examples(60)
def test_no_group_is_empty_or_larger_than_told(count: int, most: int) -> None:
    size, number = group_size(count, most), groups(count, most)
    assert size <= most
    assert (number - 1) * size < count <= number * size


@examples(40)
@given(
    policy=policies(),
    chunks=st.lists(st.integers(1, 3), max_size=7),
    recent=st.integers(0, 4),
    codec=st.sampled_from([*CODECS]),
)
def test_a_packed_cache_equals_a_list_of_frames_of_which_the_older_are_rounded(
    policy: CachePolicy, chunks: list[int], recent: int, codec: str
) -> None:
    """The newest frames are as computed; each older frame was coded once, by itself."""
    frames = sum(chunks)
    cache = KVCache(SHAPE, policy, max(frames, 1), storage=Packed(CODECS[codec], recent))
    room = planned_bytes(SHAPE, policy, max(frames, 1), Packed(CODECS[codec], recent))
    q, k, v = (randn(1, 2 * TOKENS, 2, 12, seed=900 + i) for i in range(3))
    plain = recent if policy.limit is None else min(recent, policy.limit - policy.sink_frames - 1)
    done = 0
    for count in chunks:
        cache.commit(chunk_kv(range(done, done + count)))
        done += count
        held = frame_list(policy, done)
        newest = set(range(done - plain, done))
        history = [
            chunk_kv([f]) if f in newest else rounded(chunk_kv([f]), CODECS[codec]) for f in held
        ]
        expected = naive_attention(held, q, k, v, history)
        for layer in range(SHAPE.layers):
            out = cache.attention(2)(layer, q, k, v)
            torch.testing.assert_close(out, expected[layer], rtol=1e-5, atol=1e-6)
    assert cache.bytes == room
    assert sorted(cache.kept_frames) == frame_list(policy, frames)


def rounded(layers: list[tuple[Tensor, Tensor]], codec: Codec) -> list[tuple[Tensor, Tensor]]:
    """Code and decode one frame."""
    return [round_trip(codec, k, v, torch.float32) for k, v in layers]


@examples(15)
@given(
    policy=policies(),
    before=st.integers(0, 9),
    after=st.integers(0, 5),
    codec=st.sampled_from([*CODECS]),
)
def test_a_packed_cache_goes_on_from_its_snapshot(
    policy: CachePolicy, before: int, after: int, codec: str
) -> None:
    storage = Packed(CODECS[codec], 2)
    first, second = (KVCache(SHAPE, policy, 14, storage=storage) for _ in range(2))
    for frame in range(before):
        first.commit(chunk_kv([frame]))
    second.restore(through_json(first.snapshot()))
    for cache in (first, second):
        for frame in range(before, before + after):
            cache.commit(chunk_kv([frame]))
    assert_same_histories(first, second)


def test_an_endless_history_grows_in_codes_too() -> None:
    ours, planned = (
        KVCache(SHAPE, WindowSink(100), n, storage=Packed(INT4, 2)) for n in (None, 70)
    )
    for first in range(0, 69, 3):
        for cache in (ours, planned):
            cache.commit(chunk_kv(range(first, first + 3)))
    assert_same_histories(ours, planned)


def test_storing_as_computed_elsewhere_is_dense_bit_for_bit() -> None:
    dense, packed = (
        KVCache(SHAPE, WindowSink(5, 1), storage=storage)
        for storage in (DENSE, Packed(AS_COMPUTED, 0))
    )
    for frame in range(9):
        for cache in (dense, packed):
            cache.commit(chunk_kv([frame]))
    assert_same_histories(dense, packed)


@pytest.mark.parametrize("codec", [FLOAT8, INT8])
def test_reading_a_layer_makes_no_copy_of_what_it_decodes(codec: Codec) -> None:
    store = Packed(codec).open(DEMO_FLOAT, 12, 0, torch.device("cpu"))
    store.read(0, 12, 0)
    decoded = 12 * DEMO_FLOAT.frame_values * DEMO_FLOAT.dtype.itemsize
    assert allocator_peak(lambda: store.read(0, 12, 0)) < decoded / 8
