"""A coarse history against attention spelled out, and its bytes, numbers and snapshots."""

from __future__ import annotations

import math
import weakref
from collections.abc import Sequence
from dataclasses import replace
from itertools import groupby, product

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from longtake.attention.coarse.cache import CoarseCache, planned_bytes, planned_offloaded
from longtake.attention.coarse.window import CoarseWindow
from longtake.attention.storage.dense import DENSE, KeysValues, Storage
from longtake.attention.storage.packed import Packed
from longtake.attention.storage.quantize import INT8
from longtake.attention.storage.shape import CacheShape
from longtake.tests.support.laws import examples
from longtake.tests.support.tiny_model import randn

SHAPE = CacheShape(2, 2, 2, 24, 4, 6, 3)
WINDOW = CoarseWindow(10, 1, 6)
GROUPS = ([0], [1, 2, 3], [4, 5, 6], [7, 8, 9])
IS_COARSE = (True, True, False, False)


def tokens(coarse: bool) -> int:
    """Tokens of a latent frame."""
    return 2 * 3 if coarse else 4 * 6


def made(frames: Sequence[int], coarse: bool) -> KeysValues:
    """Un-rotated keys and values of latent frames, in two layers."""
    size = SHAPE.batch, len(frames) * tokens(coarse), SHAPE.heads, SHAPE.head_dim
    seeds = range(10 * frames[0], 10 * frames[0] + 2 * SHAPE.layers, 2)
    return [(randn(*size, seed=seed), randn(*size, seed=seed + 1)) for seed in seeds]


def filled(
    storage: Storage = DENSE, groups: Sequence[list[int]] = GROUPS, shape: CacheShape = SHAPE
) -> CoarseCache:
    """A cache that was filled again with `groups`, by passes that ask what they commit."""
    cache = CoarseCache(shape, WINDOW, storage=storage)
    cache.restart([frame for group in groups for frame in group])
    for group in groups:
        coarse = cache.is_coarse(len(group))
        cache.attention_of_commit([len(group)] * len(group))
        cache.commit(made(group, coarse))
    return cache


def turned(x: Tensor, frames: Sequence[int], coarse: bool) -> Tensor:
    """Rotate x (b, s, n, d): coarse places are normalised means of two fine ones, as in diffusers.

    Source: `avg_pool_complex` of diffusers' `transformer_anyflow_far.py`.
    """
    d = x.shape[-1]

    def table(count: int, part: int, pooled: bool) -> Tensor:
        angles = torch.outer(
            torch.arange(count, dtype=torch.float64),
            1 / 10000 ** (torch.arange(0, part, 2, dtype=torch.float64) / part),
        )
        units = torch.polar(torch.ones_like(angles), angles)
        if not pooled:
            return units
        means = units.unflatten(0, (-1, 2)).mean(1)
        return means / means.abs()

    part = 2 * (d // 6)
    f = table(max(frames) + 1, d - 2 * part, pooled=False)[[*frames]]
    h, w = (table(count, part, coarse) for count in (4, 6))
    grid = len(f), len(h), len(w), -1
    units = torch.cat(
        [f[:, None, None].expand(grid), h[None, :, None].expand(grid), w.expand(grid)], -1
    )
    pairs = torch.view_as_complex(x.double().unflatten(-1, (-1, 2)).contiguous())
    return torch.view_as_real(pairs * units.flatten(0, 2).unsqueeze(1)).flatten(-2)


def softmax_attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Attention (b, s, n, d) in float64."""
    logits = torch.einsum("bsnd,btnd->bnst", q, k) / math.sqrt(q.shape[-1])
    return torch.einsum("bnst,btnd->bsnd", logits.softmax(-1), v.double())


def test_active_frames_read_coarse_and_fine_keys_at_their_places() -> None:
    cache, layer = filled(), 1
    q, k, v = (randn(2, 3 * 24, 2, 24, seed=seed) for seed in (91, 92, 93))
    ours = cache.attention(3)(layer, q, k, v)
    keys, values = [], []
    for group, coarse in zip(GROUPS, IS_COARSE, strict=True):
        key, value = made(group, coarse)[layer]
        keys.append(turned(key, group, coarse))
        values.append(value)
    active = range(10, 13)
    theirs = softmax_attention(
        turned(q, active, False),
        torch.cat([*keys, turned(k, active, False)], 1),
        torch.cat([*values, v], 1),
    )
    torch.testing.assert_close(ours.double(), theirs, rtol=0, atol=2e-6)


def test_coarse_frames_read_what_is_coarse_when_they_are_committed() -> None:
    cache, layer = CoarseCache(SHAPE, WINDOW), 0
    cache.restart(range(10))
    assert cache.is_coarse(1)
    cache.commit(made([0], True))
    q, k, v = (randn(2, 3 * 6, 2, 24, seed=seed) for seed in (91, 92, 93))
    ours = cache.attention_of_commit([3, 3, 3])(layer, q, k, v)
    key, value = made([0], True)[layer]
    group = range(1, 4)
    theirs = softmax_attention(
        turned(q, group, True),
        torch.cat([turned(key, [0], True), turned(k, group, True)], 1),
        torch.cat([value, v], 1),
    )
    torch.testing.assert_close(ours.double(), theirs, rtol=0, atol=2e-6)


@pytest.mark.parametrize(
    ("groups", "expected"),
    [
        ([[0], [1, 2, 3]], [False, False]),
        ([[0], [1, 2, 3], [4, 5, 6]], [True, True, False]),  # 3 is among the four newest
        ([[0, 1, 2], [3, 4, 5], [6, 7, 8]], [True, True, False]),
        ([[5, 6], [7, 8]], [False, False]),
        ([[0, 1, 2, 3, 4, 5]], [False]),
        ([[0, 1, 2, 3, 4], [5]], [True, False]),
        ([[0, 4, 5, 6, 7]], [False]),  # one commit, of which a window has let some go
    ],
)
def test_frames_are_coarse_before_the_four_newest(
    groups: list[list[int]], expected: list[bool]
) -> None:
    """What was committed last is fine, however large; what straddles the border is coarse."""
    cache = CoarseCache(replace(SHAPE, chunk_frames=6), CoarseWindow(10, 1, 4))
    cache.restart([frame for group in groups for frame in group])
    found = []
    for group in groups:
        found.append(cache.is_coarse(len(group)))
        cache.assume(len(group))
    assert found == expected


@examples(60)
@given(sizes=st.lists(st.integers(1, 3), min_size=1, max_size=10), fine=st.integers(1, 8))
def test_no_division_into_chunks_overfills_a_part(sizes: list[int], fine: int) -> None:
    """Up to a whole window, however its chunks are divided."""
    cache = CoarseCache(SHAPE, CoarseWindow(10, 1, fine))
    sizes = [size for i, size in enumerate(sizes) if sum(sizes[: i + 1]) <= 10]
    count = sum(sizes)
    for commit in (False, True):
        cache.restart(range(5, 5 + count))
        first = 5
        for size in sizes:
            frames = range(first, first + size)
            if commit:
                cache.commit(made(frames, cache.is_coarse(size)))
            else:
                cache.assume(size)
            first += size
        assert cache.positions == [*range(count)]


@pytest.mark.parametrize("window", [2, 3, 5, 8, 12])
@pytest.mark.parametrize("opening", [1, 2, 3])
def test_a_window_with_any_sink_holds_all_its_frames(window: int, opening: int) -> None:
    """Also a large sink, which is coarse but for its newest frames, and a window below six."""
    shape = replace(SHAPE, layers=1, batch=1)
    for sink, chunks in product(range(window), range(1, 7)):
        policy, held = CoarseWindow(window, sink), list[tuple[int, int]]()
        for first in (0, *range(opening, opening + 3 * chunks, 3)):
            stop = first + 3 if first else opening
            held += [(frame, first) for frame in range(first, stop)]
            while len(held) > window:
                del held[policy.victim([frame for frame, _ in held])]
        cache = CoarseCache(shape, policy)
        cache.restart([frame for frame, _ in held])
        for _, group in groupby(held, lambda entry: entry[1]):
            cache.assume(len([*group]))
        assert cache.positions == [*range(len(held))]


@pytest.mark.parametrize("storage", [DENSE, Packed(INT8, 1)], ids=["dense", "int8"])
@pytest.mark.parametrize("length", [None, 5, 40])
@pytest.mark.parametrize("hold", [True, False])
def test_bytes_are_as_planned(storage: Storage, length: int | None, hold: bool) -> None:
    shape = replace(SHAPE, hold_rotated=hold)
    cache = CoarseCache(shape, WINDOW, length, storage=storage)
    assert cache.bytes == planned_bytes(shape, WINDOW, length, storage)
    assert cache.offloaded_bytes == planned_offloaded(shape, WINDOW, length, storage)


def test_numbers_and_positions_are_those_of_one_history() -> None:
    cache = filled()
    assert cache.kept_frames == cache.positions == [*range(10)]
    assert (cache.committed, cache.next_frame, cache.next_position) == (10, 10, 10)
    numbers = cache.rotated_keys.key_frames(0).flatten().tolist()
    assert numbers == [frame for frame in range(10) for _ in range(tokens(frame < 4))]


def test_a_snapshot_goes_on_bit_for_bit() -> None:
    cache, other = filled(), CoarseCache(SHAPE, WINDOW)
    other.restore(cache.snapshot())
    inputs = [randn(2, 3 * 24, 2, 24, seed=seed) for seed in (91, 92, 93)]
    assert torch.equal(cache.attention(3)(0, *inputs), other.attention(3)(0, *inputs))
    assert other.kept_frames == cache.kept_frames


def test_a_cache_that_is_filled_again_forgets_all() -> None:
    cache = filled()
    cache.restart(range(4, 13))
    for group in ([4, 5, 6], [7, 8, 9], [10, 11, 12]):
        coarse = cache.is_coarse(3)
        cache.commit(made(group, coarse))
    assert cache.positions == [*range(9)]
    assert cache.rotated_keys.length(0) == 3 * tokens(True) + 6 * tokens(False)


def test_what_remains_keeps_its_order() -> None:
    cache = filled()
    cache.retain([0, 9])
    assert cache.positions == [0, 1]
    assert cache.rotated_keys.length(0) == tokens(True) + tokens(False)


def test_what_has_no_meaning_here_is_refused() -> None:
    cache = filled()
    with pytest.raises(ValueError, match="as a whole"):
        cache.history(0)
    with pytest.raises(ValueError, match="no gap"):
        cache.leave_gap(2)
    with pytest.raises(ValueError, match="no coarse ones"):
        CoarseCache(replace(SHAPE, rows=1), WINDOW)
    with pytest.raises(ValueError, match="fine_frames"):
        CoarseWindow(10, 1, 0)


def test_dropping_frees_all() -> None:
    cache = filled()
    stores = [weakref.ref(part._store) for part in (cache._coarse, cache._fine)]
    cache.drop()
    assert cache.dropped and cache.bytes == 0
    assert [store() for store in stores] == [None, None]
