"""Retention without merging, against the rule written with lists and against dense attention."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from longtake.attention.ann.nearest import Exact
from longtake.attention.cache.kv_cache import KVCache
from longtake.attention.cache.policy import FullHistory
from longtake.attention.temp_cache import novelty
from longtake.attention.temp_cache.cache import MergedCache, planned_bytes
from longtake.attention.temp_cache.novelty import MAX_COMPARED, compared_tokens, redundancy
from longtake.attention.temp_cache.policy import REDUNDANT, TempCache
from longtake.tests.support.attention.temp_caches import (
    HEADS,
    SHAPE,
    TOKENS,
    chunk_kv,
    fill,
    fill_cache,
    frame_kv,
    queries,
)
from longtake.tests.support.laws import examples
from longtake.tests.support.tiny_model import randn


def policy(
    entries: float, sink: int = 0, recent: int | None = 2, reach: int | None = None
) -> TempCache:
    """A TempCache that merges nothing."""
    return TempCache(
        entries, sink_frames=sink, recent_frames=recent, reach_frames=reach, eviction=REDUNDANT
    )


def kept_by_lists(frames: int, chosen: TempCache, similar: int) -> set[tuple[int, int]]:
    """Latent frame and place of every token that layer 0 keeps, by the rule as written."""
    kept: dict[tuple[int, int], tuple[Tensor, Tensor, float]] = {}
    room = int(chosen.entry_frames) - chosen.sink_frames
    recent = max(1, room // 2 if chosen.recent_frames is None else min(chosen.recent_frames, room))
    centre = frame_kv(0, like=0 if similar == 0 else None)[0][0].mean(0).flatten()
    for frame in range(frames):
        k, v = (x[0].flatten(1) for x in chunk_kv(range(frame, frame + 1), similar)[0])
        asking = slice(frame % 2, None, 2)
        for at, (key, value, known) in kept.items():
            alike = torch.cosine_similarity(key[None], (k - centre)[asking], dim=-1)
            alike += torch.cosine_similarity(value[None], v[asking], dim=-1)
            kept[at] = key, value, max(known, float(alike.max()))
        while len(kept) + TOKENS > round(chosen.entry_frames * TOKENS):
            spare = [at for at in kept if chosen.sink_frames <= at[0] <= frame - recent]
            del kept[max(spare, key=lambda at: kept[at][2])]
        kept |= {(frame, n): (k[n] - centre, v[n], -torch.inf) for n in range(TOKENS)}
    return set(kept)


@examples(25)
@given(
    frames=st.integers(1, 12),
    entries=st.integers(4 * TOKENS, 6 * TOKENS).map(lambda slots: slots / TOKENS),
    sink=st.integers(0, 2),
    recent=st.none() | st.integers(1, 9),
    similar=st.integers(0, 12),
    chunk=st.integers(1, 3),
)
def test_what_a_newer_key_says_again_gives_way(  # noqa: PLR0913
    frames: int, entries: float, sink: int, recent: int | None, similar: int, chunk: int
) -> None:
    chosen = policy(entries, sink, recent)
    cache = fill_cache(chosen, frames, similar, chunk)
    found, expected = cache.entries(0), kept_by_lists(frames, chosen, similar)
    for head in range(HEADS):
        used = found.mass[0, head] > 0
        at = zip(
            found.frame[0, head][used].tolist(), found.place[0, head][used].tolist(), strict=True
        )
        assert set(at) == expected
    assert (found.mass <= 1).all() and cache.rotated_keys.is_unbiased(0)
    assert len(cache.kept_frames) == min(frames, int(entries))


def test_every_entry_is_a_key_and_its_own_value() -> None:
    cache = fill_cache(policy(4), 11, similar=3)
    for layer in range(SHAPE.layers):
        found = cache.entries(layer)
        known = [chunk_kv(range(f, f + 1), 3)[layer] for f in range(11)]
        for n in range(HEADS):
            for slot, (frame, place) in enumerate(
                zip(found.frame[0, n].tolist(), found.place[0, n].tolist(), strict=True)
            ):
                key, value = (x[0, place, n] for x in known[frame])
                assert torch.equal(found.keys[0, n, slot], key)
                assert torch.equal(found.values[0, n, slot], value)


def test_all_heads_and_rows_keep_the_same_tokens() -> None:
    shape = dataclasses.replace(SHAPE, batch=2)
    cache = MergedCache(shape, policy(3, recent=1), Exact())
    for frame in range(8):
        of_rows = frame_kv(frame), frame_kv(100 + frame)
        cache.commit([tuple(map(torch.cat, zip(*of_rows, strict=True)))] * shape.layers)  # type: ignore[list-item]
    kept = cache.entries(0)
    assert (kept.frame == kept.frame[:1, :1]).all() and (kept.place == kept.place[:1, :1]).all()
    assert len(set(kept.frame[0, 0].tolist())) > 3  # parts of frames


def test_what_never_came_back_stays_however_old() -> None:
    cache = MergedCache(SHAPE, policy(4), Exact())
    once, again = frame_kv(1), frame_kv(2)
    for frame in range(20):
        k, v = once if frame == 1 else again
        cache.commit([(k, v)] * SHAPE.layers)
    frames = cache.entries(0).frame[0]
    assert ((frames == 1).sum(-1) == TOKENS).all() and ((frames >= 18).sum(-1) == 2 * TOKENS).all()


@pytest.mark.parametrize("chunk", [1, 3])
def test_within_the_budget_it_is_dense_bit_for_bit(chunk: int) -> None:
    full = KVCache(SHAPE, FullHistory(), 9)
    kept = MergedCache(SHAPE, policy(9), Exact())
    for cache in (full, kept):
        fill(cache, 0, 9, 10**6, chunk)
    for layer in range(SHAPE.layers):
        dense, ours = (cache.attention(2)(layer, *queries()) for cache in (full, kept))
        assert torch.equal(dense, ours)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_bytes_are_as_planned_and_no_queries_are_kept(dtype: torch.dtype) -> None:
    shape, chosen = dataclasses.replace(SHAPE, dtype=dtype), policy(5, 1)
    cache = MergedCache(shape, chosen, Exact())
    assert cache.bytes == planned_bytes(shape, chosen, Exact())
    assert cache.bytes < planned_bytes(shape, TempCache(5, sink_frames=1), Exact())
    for frame in range(8):
        kv = [tuple(x.to(dtype) for x in kv) for kv in chunk_kv(range(frame, frame + 1))]
        cache.commit(kv)  # type: ignore[arg-type]
    assert cache.bytes == planned_bytes(shape, chosen, Exact())
    assert cache.rotated_keys.slots_in_use == [5 * TOKENS] * SHAPE.layers


def test_a_restored_snapshot_goes_on_bit_for_bit_and_a_rewind_leaves_room() -> None:
    one, other = (MergedCache(SHAPE, policy(4, 1), Exact()) for _ in range(2))
    fill(one, 0, 8, 3, 2)
    other.restore(one.snapshot())
    for cache in (one, other):
        fill(cache, 8, 12, 3, 2)
        cache.retain([0, 10])
        fill(cache, 12, 16, 3, 2)
    assert (one.entries(0).mass == 1).all()
    for layer in range(SHAPE.layers):
        assert torch.equal(*(c.attention(2)(layer, *queries()) for c in (one, other)))


class LooksAtAll(MergedCache):
    """A search that also considers the sink when it finds entries to evict."""

    _fixed = 0


@pytest.mark.parametrize("left", [[0, 1, 6, 7], [0, 1, 6], [1, 6], [0, 7], [7], []])
def test_the_sink_is_not_looked_at_and_what_it_leaves_is_used_again(left: list[int]) -> None:
    cache, other = (kind(SHAPE, policy(4, 2), Exact()) for kind in (MergedCache, LooksAtAll))
    for one in (cache, other):
        fill(one, 0, 8, 3, 2)
        one.retain(left)
        fill(one, 8, 14, 3, 2)
    for layer in range(SHAPE.layers):
        ours, theirs = (one.entries(layer) for one in (cache, other))
        assert torch.equal(ours.frame, theirs.frame) and torch.equal(ours.place, theirs.place)
        assert torch.equal(*(one.attention(2)(layer, *queries()) for one in (cache, other)))


@pytest.mark.parametrize("left", [[0, 1, 7], [1, 6, 7], [0, 7]])
def test_what_a_rewind_leaves_stays_while_there_is_room(left: list[int]) -> None:
    cache = MergedCache(SHAPE, policy(4, 2), Exact())
    fill(cache, 0, 8, 3, 2)
    cache.retain(left)
    before = [where_from(cache, layer) for layer in range(SHAPE.layers)]
    assert max(cache.rotated_keys.slots_in_use) == 4 * TOKENS  # with empty slots among them
    fill(cache, 8, 12 - len(left), 3, 1)
    for layer, there in enumerate(before):
        assert there <= where_from(cache, layer) and cache.rotated_keys.is_unbiased(layer)


def where_from(cache: MergedCache, layer: int) -> set[tuple[int, int, int]]:
    """Head, latent frame and place of every key in a layer."""
    kept = cache.entries(layer)
    used = (kept.mass[0] > 0).nonzero().tolist()
    return {(n, int(kept.frame[0, n, at]), int(kept.place[0, n, at])) for n, at in used}


def test_latent_frames_of_one_token() -> None:
    shape = dataclasses.replace(SHAPE, rows=1, columns=1)
    cache = MergedCache(shape, policy(3), Exact())
    for frame in range(9):
        kv = chunk_kv(range(frame, frame + 1))
        cache.commit([(k[:, :1], v[:, :1]) for k, v in kv])
    assert cache.entries(0).frame[0, 0].max() == 8 and cache.rotated_keys.slots_in_use == [3, 3]


def test_a_policy_that_is_not_known_is_refused() -> None:
    with pytest.raises(ValueError, match="least attended, redundant"):
        TempCache(3, eviction="oldest")


@pytest.mark.parametrize("tokens", [1, 2, 24, 800, 801, 1560, 3600])
def test_frames_in_turn_compare_all_their_tokens_and_few_at_once(tokens: int) -> None:
    compared = [range(tokens)[compared_tokens(frame, tokens)] for frame in range(9, 9 + 9)]
    assert {token for numbers in compared for token in numbers} == {*range(tokens)}
    assert max(map(len, compared)) <= max(MAX_COMPARED, 1)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_redundancy_is_the_largest_sum_of_two_cosines(dtype: torch.dtype) -> None:
    batch, heads, width = 2, 3, 8
    cached, new = (
        tuple(randn(batch, heads, count, width, seed=seed + count).to(dtype) for seed in (1, 2))
        for count in (30, 7)
    )
    centre = randn(batch, heads, 1, width, seed=9).to(dtype)
    sums = torch.zeros(batch, 7, 30, dtype=torch.float64)
    for b, s, t in torch.cartesian_prod(*map(torch.arange, sums.shape)).tolist():
        pairs = [(new[i][b, :, s].double(), cached[i][b, :, t].double()) for i in (0, 1)]
        pairs[0] = tuple(key - centre[b, :, 0].double() for key in pairs[0])  # type: ignore[assignment]
        sums[b, s, t] = sum(torch.cosine_similarity(x.flatten(), y.flatten(), 0) for x, y in pairs)
    expected = sums.amax(1).mean(0)
    tolerance = 1e-6 if dtype == torch.float32 else 4e-3  # of differences rounded to bfloat16
    assert torch.allclose(redundancy(cached, new, centre).double(), expected, atol=tolerance)  # type: ignore[arg-type]


class OnCuda(Tensor):
    """A tensor that says that it is on an NVIDIA GPU."""

    is_cuda = True  # type: ignore[assignment]


@pytest.mark.parametrize(
    ("version", "hip", "wide"), [("2.7.1+cu126", None, False), ("2.8.0", None, True),
                                 ("2.13.0", "7.0", False)],
)  # fmt: skip
def test_wide_sums_are_asked_of_a_torch_that_has_them(
    monkeypatch: pytest.MonkeyPatch, version: str, hip: str | None, *, wide: bool
) -> None:
    """Before 2.8 `bmm` takes no dtype; on AMD the products are made in float32, as everywhere."""
    a, b = (randn(1, 4, 4, seed=s).bfloat16().as_subclass(OnCuda) for s in (1, 2))
    asked = list[object]()

    def bmm(a: Tensor, b: Tensor, **options: object) -> Tensor:
        asked.extend(options)
        return a.float() @ b.float()

    monkeypatch.setattr(torch, "bmm", bmm)
    monkeypatch.setattr(torch, "__version__", version)
    monkeypatch.setattr(torch.version, "hip", hip)
    assert novelty._product(a, b).dtype == torch.float32
    assert asked == (["out_dtype"] if wide else [])
