"""The merged cache against dense attention, and against merging written with lists."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from longtake.attention.ann.buckets import BucketIndex
from longtake.attention.ann.int8 import Int8
from longtake.attention.ann.kmeans import OnlineKMeans
from longtake.attention.ann.lsh import RandomProjection
from longtake.attention.ann.nearest import Exact, Index
from longtake.attention.cache.kv_cache import KVCache
from longtake.attention.cache.policy import FullHistory
from longtake.attention.rope import rotate, rotation
from longtake.attention.temp_cache.cache import MergedCache, planned_bytes
from longtake.attention.temp_cache.policy import REDUNDANT, TempCache
from longtake.tests.support.attention.temp_caches import (
    DIM,
    HEADS,
    NEVER,
    SHAPE,
    TOKENS,
    chunk_kv,
    fill,
    fill_cache,
    frame_kv,
    queries,
    softmax_attention,
)
from longtake.tests.support.laws import examples
from longtake.tests.support.tiny_model import randn


@pytest.mark.parametrize("hold", [True, False])
@pytest.mark.parametrize("visible", [(2, 2), (1, 2)])
def test_without_merging_it_is_dense_attention_bit_for_bit(
    visible: tuple[int, ...], *, hold: bool
) -> None:
    shape = dataclasses.replace(SHAPE, hold_rotated=hold)
    merged = MergedCache(shape, TempCache(9, NEVER), Exact())
    dense = KVCache(shape, FullHistory(), 9)
    for cache in (merged, dense):
        fill(cache, 0, 9, 10**6, 3)
    for layer in range(SHAPE.layers):
        out = (cache.attention(2, visible)(layer, *queries()) for cache in (merged, dense))
        assert torch.equal(*out)


def test_identical_keys_merged_are_dense_attention_exactly() -> None:
    """All of the history stands one frame before the active frames, so positions are equal."""
    policy = TempCache(2, 0.99, reach_frames=1)
    cache = MergedCache(SHAPE, policy, Exact())
    k, v = frame_kv(0)
    values = [randn(1, TOKENS, HEADS, DIM, seed=70 + i) for i in range(5)]
    for one in values:
        cache.commit([(k, one)] * SHAPE.layers)
    assert cache.rotated_keys.slots_in_use == [TOKENS] * SHAPE.layers
    q, own_k, own_v = queries(1)
    keys = rotate(torch.cat([k] * 5, 1), rotation([4] * 5, 2, 3, DIM))
    own_k_at, q_at = (rotate(x, rotation([5], 2, 3, DIM)) for x in (own_k, q))
    every = torch.cat([keys, own_k_at], 1), torch.cat([*values, own_v], 1)
    expected = softmax_attention(q_at, *every)
    out = cache.attention(1)(1, q, own_k, own_v)
    torch.testing.assert_close(out, expected, rtol=1e-5, atol=1e-6)


@dataclass
class Entry:
    """One entry of the reference."""

    key: Tensor
    value: Tensor
    mass: int
    frame: int
    place: int


def merged_by_lists(frames: int, policy: TempCache, similar: int, head: int) -> list[Entry]:
    """TempCache of layer 0 with unlimited room, one key after another."""
    entries: list[Entry] = []
    mean = frame_kv(0, like=0 if similar == 0 else None)[0][0, :, head].mean(0)
    for frame in range(frames):
        k, v = (x[0, :, head] for x in chunk_kv(range(frame, frame + 1), similar)[0])
        before = [(e.key, e) for e in entries if e.frame >= policy.sink_frames]
        for place in range(TOKENS):
            cosines = [
                float(torch.cosine_similarity(k[place] - mean, key - mean, dim=0))
                for key, _ in before
            ]
            best = max(cosines, default=-1.0)
            if best > policy.threshold and frame >= policy.sink_frames:
                target = before[cosines.index(best)][1]
                target.value = (target.mass * target.value + v[place]) / (target.mass + 1)
                target.mass += 1
                target.key, target.frame, target.place = k[place], frame, place
            else:
                entries.append(Entry(k[place], v[place], 1, frame, place))
    return entries


@examples(25)
@given(
    frames=st.integers(1, 9),
    similar=st.integers(0, 9),
    threshold=st.sampled_from([0.2, 0.6, 0.9]),
    sink=st.integers(0, 2),
    chunk=st.integers(1, 3),
)
def test_merging_equals_merging_key_by_key(
    frames: int, similar: int, threshold: float, sink: int, chunk: int
) -> None:
    policy = TempCache(9, threshold, sink_frames=sink)
    cache = fill_cache(policy, frames, similar, chunk)
    kept = cache.entries(0)
    for head in range(HEADS):
        expected = merged_by_lists(frames, policy, similar, head)
        used = kept.mass[0, head] > 0
        assert int(used.sum()) == len(expected)
        assert kept.mass[0, head][used].tolist() == [e.mass for e in expected]
        assert kept.frame[0, head][used].tolist() == [e.frame for e in expected]
        assert kept.place[0, head][used].tolist() == [e.place for e in expected]
        for name in ("key", "value"):
            found = getattr(kept, f"{name}s")[0, head][used]
            wanted = torch.stack([getattr(e, name) for e in expected])
            torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-6)


@examples(25)
@given(
    frames=st.integers(1, 12),
    budget=st.integers(3 * TOKENS, 6 * TOKENS).map(lambda slots: slots / TOKENS),
    sink=st.integers(0, 2),
)
def test_within_a_budget_no_mass_is_lost_but_by_eviction_and_the_sink_stays(
    frames: int, budget: float, sink: int
) -> None:
    merged = fill_cache(TempCache(budget, 0.9, floor=-1.0, sink_frames=sink), frames, similar=3)
    for layer in range(SHAPE.layers):
        mass = merged.entries(layer).mass
        assert (mass.sum(-1) == frames * TOKENS).all()  # every key found one to merge into
    evicting = fill_cache(TempCache(budget, NEVER, floor=2.0, sink_frames=sink), frames)
    for layer in range(SHAPE.layers):
        kept = evicting.entries(layer)
        assert (kept.mass.sum(-1) == round(min(frames, budget) * TOKENS)).all()
        assert (kept.mass <= 1).all()
        for cache in (merged, evicting):
            entries = cache.entries(layer)
            of_sink = entries.frame[0, 0][: min(sink, frames) * TOKENS]
            assert of_sink.tolist() == [f for f in range(min(sink, frames)) for _ in range(TOKENS)]
            k = torch.cat(
                [frame_kv(f, layer)[0] for f in range(min(sink, frames))] or [k_none()], 1
            )
            assert torch.equal(entries.keys[:, :, : k.shape[1]], k.transpose(1, 2))


def k_none() -> Tensor:
    return torch.empty(1, 0, HEADS, DIM)


def test_over_the_budget_the_most_similar_pairs_are_merged_first() -> None:
    cache = fill_cache(TempCache(2, NEVER, floor=-1.0), 2)
    for layer in range(SHAPE.layers):
        cache.entries(layer).mass[..., [3, 7]] = 0  # room for two of the six new keys
    old = torch.cat([frame_kv(f)[0] for f in (0, 1)], 1)[0]
    new = chunk_kv(range(2, 3))
    cache.commit(new)
    mean = old[:TOKENS].mean(0)
    ours, theirs = new[0][0][0][:, None] - mean, old[None] - mean
    cosine = torch.nn.functional.cosine_similarity(ours, theirs, dim=-1)
    cosine[:, [3, 7]] = -1
    kept = cache.entries(0)
    for head in range(HEADS):
        best, target = cosine[:, :, head].max(1)
        order = best.argsort(descending=True)
        expected = torch.ones(2 * TOKENS)
        expected.index_put_((target[order[:4]],), torch.ones(4), accumulate=True)
        assert kept.mass[0, head].tolist() == expected.tolist()
        placed = kept.place[0, head, [3, 7]].tolist()
        assert sorted(placed) == sorted(order[4:].tolist())


def test_the_least_attended_entries_give_way() -> None:
    cache = fill_cache(TempCache(2, NEVER, floor=2.0), 2)
    asked = torch.arange(2.0 * TOKENS).flip(0).expand(1, HEADS, -1)
    for layer in range(SHAPE.layers):
        cache.entries(layer).retention_score.copy_(asked)
        nothing = torch.zeros(1, TOKENS, HEADS, DIM)
        cache.attention_of_commit((1,))(layer, nothing, nothing, nothing)  # asks all alike
    cache.commit(chunk_kv(range(2, 3)))
    frames = cache.entries(0).frame[0, 0].tolist()
    assert frames == [0] * TOKENS + [2] * TOKENS


def test_how_the_history_was_cut_changes_which_merged_entries_are_evicted() -> None:
    """Attention is measured once a commit; until it decides an eviction, cuts change nothing."""

    def tokens_left(policy: TempCache, frames: int, chunk: int) -> Tensor:
        own = fill_cache(policy, frames, chunk=chunk).store.own[0]
        return own["frame"] * TOKENS + own["place"]

    evicted = TempCache(4, NEVER, floor=2.0)
    assert not torch.equal(tokens_left(evicted, 12, 1), tokens_left(evicted, 12, 3))
    for policy, frames in ((evicted, 4), (TempCache(4, eviction=REDUNDANT), 12)):
        assert torch.equal(tokens_left(policy, frames, 1), tokens_left(policy, frames, 3))


def test_an_entry_that_was_just_merged_into_does_not_give_way_to_the_same_frame() -> None:
    cache = fill_cache(TempCache(2, 0.99, floor=2.0), 2)
    asked = torch.arange(1.0, 2 * TOKENS + 1).expand(1, HEADS, -1)  # the first least of all
    (old, _), new = frame_kv(0), chunk_kv(range(2, 3))
    new[0][0][:, 4] = old[:, 0]  # one key is the first entry's again, five need room
    cache.entries(0).retention_score.copy_(asked)
    cache.commit(new)
    kept = cache.entries(0)
    assert (kept.mass[..., 0] == 2).all() and (kept.mass.sum(-1) == 2 * TOKENS + 1).all()
    assert kept.frame[0, 0].tolist() == [2] * TOKENS + [1] * TOKENS


def test_attention_is_measured_from_the_queries_of_the_pass() -> None:
    cache = fill_cache(TempCache(4, NEVER), 2)
    q, k, v = queries(1)
    for layer in range(SHAPE.layers):
        cache.attention_of_commit((1,))(layer, q, k, v)
    cache.commit(chunk_kv(range(2, 3)))
    at = torch.linspace(0, TOKENS - 1, 16).long()
    keys = torch.cat([frame_kv(f)[0] for f in (0, 1)], 1)
    logits = torch.einsum(
        "bsnd,btnd->bnst",
        rotate(q, rotation([2], 2, 3, DIM))[:, at],
        rotate(keys, rotation([0, 1], 2, 3, DIM)),
    )
    share = (logits / DIM**0.5).softmax(-1).mean(2)
    found = cache.entries(0).retention_score[..., : 2 * TOKENS]
    # the first frame was measured once before, the second only now
    torch.testing.assert_close(found[..., TOKENS:], share[..., TOKENS:], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("policy", [TempCache(3, 0.9), TempCache(4, 0.6, 0.3, 1, 5)])
@pytest.mark.parametrize("hold", [True, False])
def test_bytes_are_as_planned(policy: TempCache, *, hold: bool) -> None:
    shape = dataclasses.replace(SHAPE, hold_rotated=hold, dtype=torch.bfloat16)
    for index in (Exact(), Int8(DIM)):
        cache = MergedCache(shape, policy, index)
        planned = planned_bytes(shape, policy, index)
        assert cache.bytes == planned
        cache.commit([tuple(x.bfloat16() for x in kv) for kv in chunk_kv(range(3))])
        assert cache.bytes == planned
        cache.drop()
        assert cache.bytes == 0


def indexes() -> list[Index]:
    """One index of each kind."""
    return [
        Exact(),
        Int8(DIM),
        BucketIndex(RandomProjection(HEADS, DIM, bits=3), probes=2),
        BucketIndex(OnlineKMeans(4), probes=2),
    ]


@pytest.mark.parametrize("which", range(4))
def test_a_restored_snapshot_goes_on_bit_for_bit(which: int) -> None:
    policy = TempCache(4, 0.8, sink_frames=1)
    one, other = (MergedCache(SHAPE, policy, indexes()[which]) for _ in range(2))
    fill(one, 0, 6, 2, 2)
    other.restore(one.snapshot())
    for cache in (one, other):
        fill(cache, 6, 11, 2, 2)
    assert one.rotated_keys.slots_in_use == other.rotated_keys.slots_in_use
    for layer in range(SHAPE.layers):
        out = [cache.attention(2)(layer, *queries()) for cache in (one, other)]
        assert torch.equal(*out)
    other.clear()
    fresh = MergedCache(SHAPE, policy, indexes()[which])
    for cache in (other, fresh):
        fill(cache, 0, 5, 2, 2)
    assert torch.equal(other.attention(2)(0, *queries()), fresh.attention(2)(0, *queries()))


class Counting(RandomProjection):
    """Buckets that record which keys they coded."""

    def __init__(self) -> None:
        super().__init__(HEADS, DIM, bits=3)
        self.coded: list[Tensor] = []

    def assign(self, layer: int, vectors: Tensor) -> Tensor:
        self.coded.append(vectors)
        return super().assign(layer, vectors)


def test_a_cached_key_is_hashed_once_and_its_code_stays() -> None:
    buckets = Counting()
    cache = MergedCache(SHAPE, TempCache(4, 0.8, sink_frames=1), BucketIndex(buckets, probes=2))
    first: dict[tuple[int, ...], int] = {}
    for frame in range(9):
        fill(cache, frame, frame + 1, 3, 1)
        assert [len(buckets.coded), *buckets.coded[-1].shape[2:]] == [
            (frame + 1) * SHAPE.layers, TOKENS, DIM
        ]  # fmt: skip
        for layer in range(SHAPE.layers):
            kept = cache.entries(layer)
            for n, slot in (kept.mass[0] > 0).nonzero().tolist():
                at = layer, n, int(kept.frame[0, n, slot]), int(kept.place[0, n, slot])
                code = int(kept.codes[0, n, slot, 0])
                assert first.setdefault(at, code) == code


def test_denoising_only_reads_the_entries() -> None:
    cache = fill_cache(TempCache(6, 0.9), 5, similar=2)
    before = cache.snapshot()
    used = [before.tensors[f"mass.{layer}"] > 0 for layer in range(SHAPE.layers)]
    for noisy in range(3):
        attention = cache.attention(3)
        for layer in range(SHAPE.layers):
            x = randn(1, 3 * TOKENS, HEADS, DIM, seed=noisy)
            attention(layer, x, x + 1, x + 2)
    for name, tensor in cache.snapshot().tensors.items():
        layer = int(name.split(".")[1])
        if name.startswith("centre"):
            assert torch.equal(tensor, before.tensors[name])
            continue
        assert torch.equal(tensor[used[layer]], before.tensors[name][used[layer]])


def test_the_order_of_entries_changes_nothing() -> None:
    cache = fill_cache(TempCache(6, 0.9, sink_frames=1), 9, similar=3)
    kept, stop = cache.entries(0), cache.rotated_keys.slots_in_use[0]
    before = cache.attention(2)(0, *queries())
    order = randn(1, HEADS, stop, seed=7).argsort(-1)
    cache.commit([(k_none(), k_none())] * SHAPE.layers)  # nothing, but rotated keys are made anew
    for tensor in (getattr(kept, field.name) for field in dataclasses.fields(kept)):
        index = (
            order if tensor.ndim == 3 else order.unsqueeze(-1).expand(-1, -1, -1, tensor.shape[3])
        )
        tensor[:, :, :stop] = tensor[:, :, :stop].gather(2, index)
    torch.testing.assert_close(cache.attention(2)(0, *queries()), before, rtol=1e-5, atol=1e-6)


def test_thresholds_can_be_each_heads_own() -> None:
    policy = TempCache(12, ((0.9, NEVER), (NEVER, 0.9)))
    cache = fill_cache(policy, 9, similar=3)
    for layer in range(SHAPE.layers):
        masses = cache.entries(layer).mass[0].amax(-1)
        assert (masses > 1).tolist() == [layer == 0, layer == 1]


def test_a_cache_too_small_for_its_sink_is_refused() -> None:
    for entries in (3, 3.9):
        with pytest.raises(ValueError, match="at least sink_frames \\+ 1"):
            TempCache(entries, sink_frames=3)
