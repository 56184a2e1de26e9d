"""A merged cache in few bits: error bounds, and each entry is coded by itself."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import ClassVar

import pytest
import torch
from torch import Tensor

from longtake.attention.ann.nearest import Exact
from longtake.attention.rope import rotate, rotation
from longtake.attention.storage.codec import AS_COMPUTED
from longtake.attention.storage.dense import DENSE, Storage
from longtake.attention.storage.packed import Packed
from longtake.attention.storage.quantize import FLOAT8, INT4, INT8, Integers
from longtake.attention.temp_cache.cache import MergedCache, planned_bytes
from longtake.attention.temp_cache.policy import REDUNDANT, TempCache
from longtake.attention.temp_cache.store import MIN_RELATIVE_SPREAD
from longtake.errors import Unsupported
from longtake.tests.support.attention.snapshots import through_json
from longtake.tests.support.attention.temp_caches import (
    DIM,
    HEADS,
    SHAPE,
    TOKENS,
    chunk_kv,
    fill,
    frame_kv,
    queries,
    softmax_attention,
)
from longtake.tests.support.tiny_model import randn, settings

CODECS = {"int8": INT8, "int4": INT4, "fp8": FLOAT8}
KEPT = TempCache(5, sink_frames=1, eviction=REDUNDANT)
MERGED = TempCache(5, 0.8, 0.5, sink_frames=1, max_mass=1)


def opened(policy: TempCache, codec: str, *, hold: bool = False) -> MergedCache:
    """An empty cache that stores entries through a codec."""
    shape = dataclasses.replace(SHAPE, hold_rotated=hold)
    return MergedCache(shape, policy, Exact(), storage=Packed(CODECS[codec]))


def steps(x: Tensor, codec: str) -> Tensor:
    """A little more than half a step of each vector's (..., d) grid, in x's shape."""
    low, high = x.amin(-1, keepdim=True), x.amax(-1, keepdim=True)
    largest = torch.maximum(-low, high)
    if codec == "fp8":
        return x.abs() / 16 + largest / 448 / 256
    if codec == "int8":
        return (0.58 * largest / 127).expand_as(x)
    return (1.1 * torch.maximum((high - low) / 15, largest / 112)).expand_as(x)


def spread_of(first: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and spread (n, d) by channel of a latent frame's keys (s, n, d)."""
    centre = first.mean(0)
    spread = (first - centre).abs().amax(0)
    return centre, spread.maximum(MIN_RELATIVE_SPREAD * spread.amax(-1, keepdim=True))


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("hold", [True, False])
def test_every_entry_is_its_key_and_value_but_for_half_a_step(codec: str, *, hold: bool) -> None:
    cache = opened(KEPT, codec, hold=hold)
    fill(cache, 0, 12, 3, 2)
    for layer in range(SHAPE.layers):
        known = [chunk_kv(range(f, f + 1), 3)[layer] for f in range(12)]
        centre, spread = spread_of(known[0][0][0])
        found, off = cache.entries(layer), 0.0
        assert (found.mass == 1).all()
        for n in range(HEADS):
            at = zip(found.frame[0, n].tolist(), found.place[0, n].tolist(), strict=True)
            k, v = (torch.stack([known[f][i][0, place, n] for f, place in at])
                    for i, at in enumerate([[*at]] * 2))  # fmt: skip
            allowed = steps((k - centre[n]) / spread[n], codec) * spread[n] + 1e-6
            assert ((found.keys[0, n] - k).abs() <= allowed).all()
            assert ((found.values[0, n] - v).abs() <= steps(v, codec) + 1e-6).all()
            off += float((found.keys[0, n] - k).abs().mean())
        assert off > 0  # it is coded


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("policy", [KEPT, MERGED])
def test_a_commit_codes_the_entries_it_touches_and_no_other(policy: TempCache, codec: str) -> None:
    cache = opened(policy, codec)
    fill(cache, 0, 8, 3, 2)
    for first in range(8, 14, 2):
        before = cache.snapshot().tensors
        fill(cache, first, first + 2, 3, 2)
        after = cache.snapshot().tensors
        for layer in range(SHAPE.layers):
            old = (after[f"frame.{layer}"] < first) & (after[f"mass.{layer}"] > 0)
            assert 0 < int(old.sum()) < old.numel()
            for name in [name for name in after if name.split(".")[0] in ("keys", "values")]:
                if name.endswith(f".{layer}"):
                    of_heads = old.expand(after[name].shape[:3])
                    assert torch.equal(after[name][of_heads], before[name][of_heads])


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("policy", [KEPT, MERGED])
def test_how_the_history_was_cut_into_chunks_changes_nothing(policy: TempCache, codec: str) -> None:
    one, other = opened(policy, codec), opened(policy, codec)
    policy_free = policy.merges  # its worth is measured by chunks: no room may be lacking
    frames = 5 if policy_free else 12
    fill(one, 0, frames, 3, 1)
    fill(other, 0, frames, 3, 3)
    for layer in range(SHAPE.layers):
        assert torch.equal(*(c.attention(2)(layer, *queries()) for c in (one, other)))


@pytest.mark.parametrize(
    ("dtype", "least", "most"),
    [(torch.float32, 0.9, 1.01), (torch.float16, 0.9, 1.2), (torch.bfloat16, 1.5, 2.01)],
)
def test_an_int8_value_is_off_by_half_a_step_and_by_a_whole_one_in_bfloat16(
    dtype: torch.dtype, least: float, most: float
) -> None:
    vectors = randn(1, 2, 4000, 64).to(dtype)
    decoded = INT8.decode_rows(INT8.encode_rows(vectors), 64, dtype)
    half_step = vectors.float().abs().amax(-1, keepdim=True) / 127 / 2
    error = ((decoded.float() - vectors.float()).abs() / half_step).max()
    assert least < float(error) < most


@pytest.mark.parametrize("codec", CODECS)
def test_values_merged_often_stay_within_two_steps(codec: str) -> None:
    """If an entry counts as one key, each merge halves the earlier error."""
    policy = TempCache(2, 0.9, max_mass=1)
    coded, plain = opened(policy, codec), MergedCache(SHAPE, policy, Exact())
    (k, _), widest = frame_kv(0), torch.zeros(1, HEADS, TOKENS, DIM)
    for turn in range(30):
        v = frame_kv(turn)[1]
        for cache in (coded, plain):
            cache.commit([(k, v)] * SHAPE.layers)
        widest = widest.maximum(steps(plain.entries(0).values[:, :, :TOKENS], codec))
    ours, theirs = (c.entries(0).values[:, :, :TOKENS] for c in (coded, plain))
    assert (
        coded.rotated_keys.slots_in_use
        == plain.rotated_keys.slots_in_use
        == [TOKENS] * SHAPE.layers
    )
    assert ((ours - theirs).abs() <= 2.2 * widest.amax(-1, keepdim=True)).all()


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("rows", [slice(None), slice(1, 2)])
def test_attention_is_that_over_what_is_kept(codec: str, rows: slice) -> None:
    shape = dataclasses.replace(SHAPE, batch=2)
    cache = MergedCache(
        shape, TempCache(9, eviction=REDUNDANT), Exact(), storage=Packed(CODECS[codec])
    )
    for frame in range(4):
        kv = [
            (torch.cat([k, k / 2]), torch.cat([v, v])) for k, v in chunk_kv(range(frame, frame + 1))
        ]
        cache.commit(kv)
    q, own_k, own_v = (x.expand(2, -1, -1, -1)[rows] for x in queries(1))
    for layer in range(SHAPE.layers):
        past_k, past_v = (x[rows].clone() for x in cache.history(layer))
        keys = torch.cat([rotate(past_k, rotation(range(4), 2, 3, DIM)),
                          rotate(own_k, rotation([4], 2, 3, DIM))], 1)  # fmt: skip
        turned = rotate(q, rotation([4], 2, 3, DIM))
        expected = softmax_attention(turned, keys, torch.cat([past_v, own_v], 1))
        found = cache.attention(1, rows=rows)(layer, q, own_k, own_v)
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("policy", [KEPT, MERGED])
def test_bytes_are_as_planned_and_few(policy: TempCache, codec: str) -> None:
    cache = opened(policy, codec)
    planned = planned_bytes(cache.shape, policy, Exact(), Packed(CODECS[codec]))
    assert cache.bytes == planned
    fill(cache, 0, 9, 3, 3)
    assert cache.bytes == planned
    wide = dataclasses.replace(SHAPE, layers=30, head_dim=128, rows=9, columns=9)
    many = dataclasses.replace(policy, entry_frames=40)
    sizes = [planned_bytes(wide, many, Exact(), s) for s in (Packed(CODECS[codec]), DENSE)]
    assert sizes[0] < 0.25 * sizes[1]  # which holds rotated keys, too
    cache.drop()
    assert cache.bytes == 0


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("policy", [KEPT, MERGED])
def test_a_snapshot_on_disk_goes_on_bit_for_bit(policy: TempCache, codec: str) -> None:
    one, other = opened(policy, codec), opened(policy, codec)
    fill(one, 0, 7, 3, 2)
    other.restore(through_json(one.snapshot()))
    for cache in (one, other):
        fill(cache, 7, 9, 3, 2)
        cache.retain([0, 7, 8])
        cache.move("cpu")
        fill(cache, 9, 12, 3, 2)
    for layer in range(SHAPE.layers):
        assert torch.equal(*(c.attention(2)(layer, *queries()) for c in (one, other)))
        for ours, theirs in zip(one.history(layer), other.history(layer), strict=True):
            assert torch.equal(ours, theirs)


@pytest.mark.parametrize("storage", [Packed(AS_COMPUTED), Packed(INT8, 3)])
def test_storage_that_entries_cannot_have_is_refused(storage: Storage) -> None:
    """By the settings of a rollout, before anything runs, and by the cache itself."""
    with pytest.raises(Unsupported, match="stores all of its entries alike"):
        settings(cache=KEPT, storage=storage)
    with pytest.raises(ValueError, match="one by one"):
        MergedCache(SHAPE, KEPT, Exact(), storage=storage)


@pytest.mark.parametrize("storage", [DENSE, *map(Packed, CODECS.values())])
def test_settings_take_every_storage_that_entries_can_have(storage: Storage) -> None:
    assert settings(cache=KEPT, storage=storage).storage == storage


class Counting(Integers):
    """A codec that records how many batch rows are decoded."""

    rows: ClassVar[list[int]] = []

    def decode_rows(self, parts: Sequence[Tensor], width: int, dtype: torch.dtype) -> Tensor:
        self.rows.append(parts[0].shape[0])
        return super().decode_rows(parts, width, dtype)


def test_only_the_rows_that_attend_are_decoded() -> None:
    shape = dataclasses.replace(SHAPE, batch=3, hold_rotated=False)
    codec = Counting(bits=8, key_tokens=64, value_channels=96, zero_points=False)
    cache = MergedCache(shape, KEPT, Exact(), storage=Packed(codec))
    cache.commit(
        [(k.expand(3, -1, -1, -1), v.expand(3, -1, -1, -1)) for k, v in chunk_kv(range(2))]
    )
    q, k, v = queries(1)
    for row in range(3):
        Counting.rows.clear()
        cache.attention(1, rows=slice(row, row + 1))(0, q, k, v)
        assert Counting.rows == [1, 1]


@pytest.mark.parametrize("codec", CODECS)
def test_keys_far_beyond_the_first_frames_spread_are_stored_finite(codec: str) -> None:
    """A channel that is constant in the first latent frame has the smallest spread."""
    storage = Packed(CODECS[codec], 0)
    cache = MergedCache(SHAPE, TempCache(4, eviction=REDUNDANT), Exact(), storage=storage)
    k, v = frame_kv(0)
    cache.commit([(torch.zeros_like(k), v)] * SHAPE.layers)
    cache.commit([(k * 1e3, v * 1e3)] * SHAPE.layers)
    entries = cache.entries(0)
    used = slice(0, 2 * SHAPE.frame_tokens)
    assert entries.keys[:, :, used].isfinite().all() and entries.values[:, :, used].isfinite().all()
