"""Sparse self-attention against dense attention and against masks."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from longtake.attention.ann.choice import open_buckets
from longtake.attention.ann.kmeans import OnlineKMeans
from longtake.attention.ann.lsh import RandomProjection
from longtake.attention.ann.nearest import Exact
from longtake.attention.cache.kv_cache import KVCache
from longtake.attention.cache.policy import FullHistory, WindowSink
from longtake.attention.sparse.blocks import KEY_BLOCK, build_blocks, choose_blocks
from longtake.attention.sparse.key_codes import SlotCodes
from longtake.attention.sparse.recall import sampled_recall
from longtake.attention.sparse.self_attention import SparseHistory, select_keys
from longtake.attention.sparse.settings import SparseSelf
from longtake.attention.sparse.stats import SparseStats
from longtake.attention.temp_cache.cache import MergedCache
from longtake.attention.temp_cache.policy import TempCache
from longtake.tests.support.attention.sparse_keys import SHAPE, TOKENS, kv
from longtake.tests.support.laws import examples
from longtake.tests.support.tiny_model import randn


def settings(**changes: Any) -> SparseSelf:
    """Sparse from the first step and layer on, without fallback to dense heads."""
    chosen: dict[str, Any] = {"dense_share": 0.0, "dense_layers": (), "recall_floor": 0.0}
    return SparseSelf(**{**chosen, **changes})


def fill_cache(frames: int, cache: KVCache | MergedCache | None = None) -> KVCache | MergedCache:
    """A cache, by default of the full history, with `frames` frames committed."""
    cache = KVCache(SHAPE, FullHistory(), frames + 3) if cache is None else cache
    for frame in range(frames):
        cache.commit(kv(frame))
    return cache


def queries(frames: int = 3) -> tuple[Tensor, Tensor, Tensor]:
    """q, k, v of active frames, with queries large enough to prefer some keys."""
    q, k, v = (randn(1, frames * TOKENS, 3, 12, seed=990 + i) for i in range(3))
    return 2 * q, k, v


def sparse(
    cache: KVCache | MergedCache, chosen: SparseSelf, sink: int = 0, codes: Any = None
) -> SparseHistory:
    """Sparse attention over a cache with a history of any length."""
    return SparseHistory(chosen, SparseStats(), sink_frames=sink, min_keys=0, codes=codes)


@examples(12)
@given(
    frames=st.integers(1, 9),
    visible=st.sampled_from([(3, 3, 3), (1, 2, 3), (1, 1, 3)]),
    order=st.sampled_from(["time", "lsh", "k-means"]),
    recent=st.integers(0, 4),
    sink=st.integers(0, 2),
)
def test_reading_every_block_is_dense_attention(
    frames: int, visible: tuple[int, ...], order: str, recent: int, sink: int
) -> None:
    cache = fill_cache(frames)
    codes = SlotCodes(cache, open_buckets("lsh" if order == "time" else order, SHAPE))
    codes.update()
    of_keys = None if order == "time" else codes.of_layer
    history = sparse(cache, settings(density=1.0, recent_frames=recent), sink, of_keys)
    for layer in range(SHAPE.layers):
        attention = cache.attention(3, visible)
        expected = attention(layer, *queries())
        found = history.over(attention, [1.0] * 3)(layer, *queries())
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    assert history.stats.density == pytest.approx(1)
    assert history.stats.recall == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("visible", [(3, 3, 3), (1, 2, 3)])
def test_reading_every_block_of_merged_entries_is_dense_attention(visible: tuple[int, ...]) -> None:
    cache = fill_cache(9, MergedCache(SHAPE, TempCache(5, 0.5, sink_frames=1), Exact()))
    history = sparse(cache, settings(density=1.0), sink=1)
    attention = cache.attention(3, visible)
    expected = attention(1, *queries())
    found = history.over(attention, [1.0] * 3)(1, *queries())
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_a_ring_of_slots_changes_nothing() -> None:
    """Blocks follow slots; the newest frames follow time."""
    cache = fill_cache(11, KVCache(SHAPE, WindowSink(6, 1), 20))
    history = sparse(cache, settings(density=1.0, recent_frames=2), sink=1)
    attention = cache.attention(3)
    laid = attention.gather(0, *queries())
    always = history.layout(0, slice(None), laid).always // TOKENS
    frames = {cache.kept_frames[int(slot)] for slot in always}
    assert frames == {0, 9, 10}
    torch.testing.assert_close(
        history.over(attention, [1.0] * 3)(0, *queries()),
        attention(0, *queries()),
        rtol=1e-4,
        atol=1e-5,
    )


def test_a_low_density_reads_few_keys_and_the_recall_is_what_they_hold() -> None:
    cache = fill_cache(12)
    history = sparse(cache, settings(density=0.2, recent_frames=1))
    attention = cache.attention(3)
    found = history.over(attention, [1.0] * 3)(0, *queries())
    assert 0.3 < history.stats.density < 0.55  # 0.2 of 11 frames, one newest, three active, of 15
    laid = attention.gather(0, *queries())
    layout = history.layout(0, slice(None), laid)
    chosen = choose_blocks(laid.q, layout.blocks, max(1, round(0.2 * layout.blocks.means.shape[2])))
    read = torch.zeros(1, 3, 63, laid.keys.shape[2], dtype=torch.bool)
    read[..., laid.past - TOKENS :] = True
    for head in range(3):
        for token in layout.blocks.tokens[0, head, chosen[0, head, 0]].flatten().tolist():
            read[0, head, :, token] |= token >= 0
    logits = laid.q @ laid.keys.transpose(2, 3) / 12**0.5
    expected = logits.masked_fill(~read, -torch.inf).softmax(-1) @ laid.values
    torch.testing.assert_close(found.transpose(1, 2), expected, rtol=1e-4, atol=1e-5)
    at = torch.linspace(0, 62, 16).long()
    held = (logits.softmax(-1) * read)[:, :, at].sum(-1).mean()
    assert history.stats.recall == pytest.approx(float(held), abs=1e-5)


def test_a_head_whose_keys_hold_too_little_is_dense_and_counted() -> None:
    cache = fill_cache(12)
    attention = cache.attention(3)
    dense = attention(0, *queries())
    probe = sparse(cache, settings(density=0.1))
    laid = attention.gather(0, *queries())
    layout = probe.layout(0, slice(None), laid)
    recall = sampled_recall(
        laid, select_keys(layout, laid, slice(0, 63), 63, settings(density=0.1))
    )[0]
    floor = float(recall.sort().values[1:].mean())  # below the best, above the worst
    history = sparse(cache, settings(density=0.1, recall_floor=floor))
    found = history.over(attention, [1.0] * 3)(0, *queries())
    poor = recall < floor
    assert 0 < int(poor.sum()) < 3
    torch.testing.assert_close(found[:, :, poor], dense[:, :, poor], rtol=1e-5, atol=1e-6)
    assert not torch.allclose(found[:, :, ~poor], dense[:, :, ~poor], atol=1e-3)
    assert history.stats.dense_fallbacks == int(poor.sum())
    history.over(attention, [1.0] * 3)(0, *queries())
    assert history.stats.dense_fallbacks == int(poor.sum())  # once a chunk and layer
    history.forget()
    history.over(attention, [1.0] * 3)(0, *queries())
    assert history.stats.dense_fallbacks == 2 * int(poor.sum())


def test_a_head_is_dense_from_the_step_on_in_which_its_keys_hold_too_little() -> None:
    """Attention sharpens as noise falls: what the first step says does not hold for the last."""
    cache = fill_cache(12)
    attention, chosen = cache.attention(3), settings(density=0.1, recall_floor=0.6)
    q, k, v = queries()
    own = 40 * k, k, v  # looks at its own chunk, which is always read
    old = cache.history(0)[0][:, TOKENS : 2 * TOKENS].repeat(1, 3, 1, 1)
    far = 0.02 * (q + old), k, v  # looks everywhere
    history = sparse(cache, chosen)
    first = history.over(attention, [0.3] * 3)(0, *own)
    assert history.stats.dense_fallbacks == 0 and history.stats.recall > 0.6
    assert not torch.equal(first, attention(0, *own))
    history.over(attention, [0.3] * 3)(0, *far)
    assert history.stats.dense_fallbacks == 0  # one check a step
    assert torch.equal(history.over(attention, [0.6] * 3)(0, *far), attention(0, *far))
    assert history.stats.dense_fallbacks == 3
    assert torch.equal(history.over(attention, [0.9] * 3)(0, *own), attention(0, *own))
    assert history.stats.dense_fallbacks == 3 and history.stats.sampled == 9
    history.forget()
    history.over(attention, [0.3] * 3)(0, *own)
    assert history.stats.dense_fallbacks == 3


def test_rows_attend_together_as_they_do_one_after_another() -> None:
    """Each row has its own dense heads, so splitting a batch to save memory changes nothing."""
    cache = KVCache(replace(SHAPE, batch=2), FullHistory(), 15)
    for frame in range(12):
        cache.commit([tuple(map(torch.cat, zip(*of_rows, strict=True)))  # type: ignore[misc]
                      for of_rows in zip(kv(frame), kv(100 + frame), strict=True)])  # fmt: skip
    q, k, v = (torch.cat([x, randn(*x.shape, seed=i)]) for i, x in enumerate(queries()))
    rows = [slice(0, 1), slice(1, 2)]

    def made(history: SparseHistory, at: slice) -> Tensor:
        return history.over(cache.attention(3, rows=at), [1.0] * 3)(0, q[at], k[at], v[at])

    probe = sparse(cache, settings(density=0.1))
    made(probe, slice(0, 2))
    chosen = settings(density=0.1, recall_floor=probe.stats.recall)  # some are below
    together, each = sparse(cache, chosen), sparse(cache, chosen)
    found = made(together, slice(0, 2))
    torch.testing.assert_close(found, torch.cat([made(each, at) for at in rows]))
    dense = cache.attention(3)(0, q, k, v)
    fallbacks = together.stats.dense_fallbacks
    as_dense = torch.isclose(found, dense, rtol=1e-4, atol=1e-5).all(1).all(-1)  # (b, n)
    assert 0 < fallbacks == int(as_dense.sum()) < 6
    assert each.stats.dense_fallbacks == fallbacks and each.stats.sampled == together.stats.sampled
    assert each.stats.recall == pytest.approx(together.stats.recall)
    assert each.stats.density == pytest.approx(together.stats.density)
    made(together, rows[1])
    assert together.stats.dense_fallbacks == fallbacks and together.stats.sampled == 6


def test_first_steps_chosen_layers_and_short_histories_are_dense_bit_for_bit() -> None:
    cache = fill_cache(9)
    attention = cache.attention(3)
    dense = attention(1, *queries())
    late = settings(density=0.1, dense_share=0.5)
    for chosen, progress, fewest in (
        (late, 0.4, 0),
        (settings(density=0.1, dense_layers=(1,)), 1.0, 0),
        (settings(density=0.1), 1.0, 9 * TOKENS + 1),
    ):
        history = SparseHistory(chosen, SparseStats(), sink_frames=0, min_keys=fewest)
        assert torch.equal(history.over(attention, [progress] * 3)(1, *queries()), dense)
        assert history.stats.density == 1
        assert history.stats.recall is None
    assert not torch.equal(sparse(cache, late).over(attention, [0.5] * 3)(1, *queries()), dense)


@pytest.mark.parametrize("visible", [(3, 3, 3), (1, 2, 3)])
@pytest.mark.parametrize("progress", [(0.6, 0.6, 0.2), (0.9, 0.0, 0.5), (0.2, 0.5, 1.0)])
def test_of_a_pass_with_frames_of_several_steps_the_early_ones_alone_are_dense(
    progress: tuple[float, ...], visible: tuple[int, ...]
) -> None:
    """Rolling windows and pyramids always have a frame of pure noise."""
    cache = fill_cache(9)
    attention = cache.attention(3, visible)
    late = settings(density=0.1, dense_share=0.4)
    dense, few = attention(1, *queries()), sparse(cache, late).over(attention, [1.0] * 3)
    for frame, done in enumerate(progress):
        at = slice(frame * TOKENS, (frame + 1) * TOKENS)
        history = sparse(cache, late)
        made = history.over(attention, progress)(1, *queries())
        assert torch.allclose(made[:, at], dense[:, at], atol=1e-5) == (done < 0.4)
        assert history.stats.density < 1
    if visible == (1, 2, 3):  # each frame chooses for itself
        every = few(1, *queries())
        made = sparse(cache, late).over(attention, (0.2, 0.5, 1.0))(1, *queries())
        torch.testing.assert_close(made[:, TOKENS:], every[:, TOKENS:])


def test_the_block_that_holds_the_attention_is_chosen() -> None:
    keys = 0.1 * randn(1, 2, 5 * KEY_BLOCK - 9, 12)
    q = randn(1, 2, 4, 12, seed=3)
    loud = 3 * KEY_BLOCK + 7
    keys[:, :, loud : loud + 20] += 5 * q.mean(2, keepdim=True)
    blocks = build_blocks(keys, None, torch.arange(keys.shape[2]))
    logits = (q @ keys.transpose(2, 3) / 12**0.5).softmax(-1)
    held = torch.nn.functional.pad(logits, (0, 9)).unflatten(3, (5, KEY_BLOCK)).sum((2, 4))
    assert torch.equal(choose_blocks(q, blocks, 1)[:, :, 0, 0], held.argmax(-1))


def test_a_blocks_mass_counts_as_so_many_keys() -> None:
    keys = randn(1, 1, 2 * KEY_BLOCK, 12)
    keys[:, :, KEY_BLOCK:] = keys[:, :, :KEY_BLOCK]
    q, bias = randn(1, 1, 3, 12, seed=2), torch.zeros(1, 1, 2 * KEY_BLOCK)
    bias[..., KEY_BLOCK:] = 3.0
    blocks = build_blocks(keys, bias, torch.arange(2 * KEY_BLOCK))
    torch.testing.assert_close(blocks.means[:, :, 0], blocks.means[:, :, 1])
    assert choose_blocks(q, blocks, 1).item() == 1


@pytest.mark.parametrize("kind", [0, 1])
def test_every_key_is_coded_once(kind: int) -> None:
    buckets = [RandomProjection(3, 12, bits=3), OnlineKMeans(8)][kind]
    cache = KVCache(SHAPE, WindowSink(4, 1), 20)
    codes, at_first = SlotCodes(cache, buckets), {}
    assigned, assign = [], buckets.assign

    def count(layer: int, keys: torch.Tensor) -> torch.Tensor:
        assigned.append(keys.shape[2])
        return assign(layer, keys)

    buckets.assign = count
    for frame in range(9):
        cache.commit(kv(frame))
        codes.update()
        codes.update()
        for layer in range(SHAPE.layers):
            of_layer = codes.of_layer(layer, cache.kept_frames).unflatten(2, (-1, TOKENS))
            for slot, held in enumerate(cache.kept_frames):
                first = at_first.setdefault((layer, held), of_layer[:, :, slot].clone())
                assert torch.equal(of_layer[:, :, slot], first)
    assert sum(assigned) == 9 * TOKENS * SHAPE.layers


def test_settings_that_mean_nothing_are_refused() -> None:
    with pytest.raises(ValueError, match="density"):
        SparseSelf(density=0)
    with pytest.raises(ValueError, match="order must be one of"):
        SparseSelf(order="alphabetical")
