"""Attention in the axes of cameras: what it is, and what it does not depend on."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from longtake.attention.cache.kv_cache import KVCache
from longtake.attention.cache.policy import WindowSink
from longtake.attention.dense import attend
from longtake.attention.projected import FrameMatrices, ProjectedAttention, ReadFrames, multiply
from longtake.attention.storage.shape import CacheShape
from longtake.tests.support.tiny_model import randn

HEADS, WIDTH, TOKENS = 2, 12, 6
SHAPE = CacheShape(
    layers=1, batch=2, heads=HEADS, head_dim=WIDTH, rows=2, columns=3, chunk_frames=2,
    dtype=torch.float32,
)  # fmt: skip
PAST, ACTIVE = (0, 1, 2), (3, 4)


def qkv(frames: int, seed: int, rows: int = 2) -> tuple[Tensor, Tensor, Tensor]:
    q, k, v = (randn(rows, frames * TOKENS, HEADS, WIDTH, seed=seed + i) for i in range(3))
    return q, k, v


def filled(past: tuple[int, ...] = PAST) -> KVCache:
    """A cache that holds random keys and values of the past."""
    cache = KVCache(SHAPE, WindowSink(4), 8)
    for frame in past:
        _, k, v = qkv(1, 100 + 10 * frame)
        cache.commit([(k, v)])
    return cache


def matrices(seed: int = 1, world: Tensor | None = None) -> dict[int, Tensor]:
    """An invertible matrix of each latent frame, perhaps with other common axes."""
    generator = torch.Generator().manual_seed(seed)
    own = [torch.eye(4) + 0.3 * torch.randn(4, 4, generator=generator) for _ in range(8)]
    return {i: m if world is None else m @ world for i, m in enumerate(own)}


def attention(
    by: dict[int, Tensor], visible: tuple[int, ...] = (2, 2), rows: slice = slice(None),
    slots: tuple[int, ...] = (0, 1, 2),
) -> ProjectedAttention:  # fmt: skip
    def chosen(frames: tuple[int, ...], origin: int) -> FrameMatrices:
        stack = torch.stack([by[frame] for frame in frames])
        return FrameMatrices(stack, torch.linalg.inv(stack))

    past = tuple(PAST[slot] for slot in slots)
    return ProjectedAttention(ReadFrames(filled(), rows, slots, past, ACTIVE, visible), chosen)


def by_hand(by: dict[int, Tensor], visible: tuple[int, ...]) -> Tensor:
    """Each query by itself: logits and sums of 4 x 4 products, in float64."""
    q, k, v = (x.double() for x in qkv(2, 7))
    past = [x.double() for x in filled().history(0)]
    keys, values = torch.cat([past[0], k], 1), torch.cat([past[1], v], 1)
    frames = [*PAST, *ACTIVE]
    out = torch.zeros_like(q)
    for row in range(2):
        for head in range(HEADS):
            for i in range(2 * TOKENS):
                mine = by[ACTIVE[i // TOKENS]].double()
                logits, parts = [], []
                for j in range((len(PAST) + visible[i // TOKENS]) * TOKENS):
                    change = mine @ torch.linalg.inv(by[frames[j // TOKENS]].double())
                    key = (change @ keys[row, j, head].view(-1, 4).T).T.flatten()
                    parts.append((change @ values[row, j, head].view(-1, 4).T).T.flatten())
                    logits.append((q[row, i, head] @ key) / math.sqrt(WIDTH))
                out[row, i, head] = torch.stack(logits).softmax(0) @ torch.stack(parts)
    return out


def test_it_is_the_sum_by_hand() -> None:
    for visible in ((2, 2), (1, 2)):
        ours = attention(matrices(), visible)(0, *qkv(2, 7))
        torch.testing.assert_close(ours.double(), by_hand(matrices(), visible), rtol=0, atol=1e-4)


def test_other_common_axes_change_nothing() -> None:
    world = torch.eye(4) + 0.2 * randn(4, 4, seed=9)
    ours, moved = (attention(matrices(world=w))(0, *qkv(2, 7)) for w in (None, world))
    torch.testing.assert_close(moved, ours, rtol=0, atol=1e-4)


def test_equal_cameras_are_plain_attention_without_positions() -> None:
    same = {frame: matrices()[0] for frame in range(8)}
    q, k, v = qkv(2, 7)
    past = filled().history(0)
    keys, values = torch.cat([past[0], k], 1), torch.cat([past[1], v], 1)
    torch.testing.assert_close(attention(same)(0, q, k, v), attend(q, keys, values),
                               rtol=0, atol=1e-4)  # fmt: skip


def test_some_rows_and_some_slots_are_the_part_of_the_whole() -> None:
    q, k, v = qkv(2, 7)
    whole = attention(matrices())(0, q, k, v)
    row = attention(matrices(), rows=slice(1, 2))(0, q[1:], k[1:], v[1:])
    torch.testing.assert_close(row, whole[1:])
    cut = attention(matrices(), slots=(2, 0))(0, q, k, v)
    turned = attention(matrices(), slots=(0, 2))(0, q, k, v)
    torch.testing.assert_close(cut, turned, rtol=0, atol=1e-5)
    assert not torch.allclose(cut, whole, atol=1e-3)
    none = attention(matrices(), slots=())(0, q, k, v)
    assert not torch.allclose(none, cut, atol=1e-3)


def test_a_matrix_multiplies_each_group_of_four_channels() -> None:
    x, by = randn(1, 2 * TOKENS, HEADS, WIDTH), torch.stack([*matrices().values()][:2])
    product = multiply(x, by)
    for token in (0, TOKENS - 1, TOKENS):
        expected = by[token // TOKENS] @ x[0, token, 1, 4:8]
        torch.testing.assert_close(product[0, token, 1, 4:8], expected)
