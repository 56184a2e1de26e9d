"""KV caches for tests: shape, keys and values by latent frame, and a naive reference."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from hypothesis import strategies as st
from torch import Tensor

from longtake.attention.cache.kv_cache import KVCache
from longtake.attention.cache.policy import CachePolicy, FullHistory, WindowSink
from longtake.attention.dense import attend
from longtake.attention.rope import rotate, rotation
from longtake.attention.storage.shape import CacheShape
from longtake.tests.support.tiny_model import randn

SHAPE = CacheShape(layers=2, batch=1, heads=2, head_dim=12, rows=1, columns=3, chunk_frames=3)
TOKENS = SHAPE.frame_tokens


def frame_kv(frame: int) -> list[tuple[Tensor, Tensor]]:
    """Keys and values of one latent frame in every layer, different for each frame."""
    seeds = (4 * frame + 2 * layer for layer in range(SHAPE.layers))
    return [(randn(1, TOKENS, 2, 12, seed=s), randn(1, TOKENS, 2, 12, seed=s + 1)) for s in seeds]


def chunk_kv(frames: Sequence[int]) -> list[tuple[Tensor, Tensor]]:
    """Keys and values of several latent frames as one sequence."""
    return end_to_end([frame_kv(frame) for frame in frames])


def end_to_end(frames: Sequence[list[tuple[Tensor, Tensor]]]) -> list[tuple[Tensor, Tensor]]:
    """Keys and values of latent frames as one sequence."""
    return [
        (torch.cat([f[layer][0] for f in frames], 1), torch.cat([f[layer][1] for f in frames], 1))
        for layer in range(SHAPE.layers)
    ]


def fill(cache: KVCache, frames: int, chunk: int = 1) -> None:
    """Commit `frames` latent frames in chunks."""
    for first in range(0, frames, chunk):
        cache.commit(chunk_kv(range(first, min(first + chunk, frames))))


def frame_list(policy: CachePolicy, frames: int) -> list[int]:
    """The latent frames held after `frames` commits, by a naive list."""
    held: list[int] = []
    for frame in range(frames):
        held.append(frame)
        if policy.limit is not None and len(held) > policy.limit:
            del held[policy.sink_frames]
    return held


@st.composite
def policies(draw: st.DrawFn) -> CachePolicy:
    """A full history, or a window with or without a sink."""
    window = draw(st.integers(1, 9))
    sink = draw(st.integers(0, window - 1))
    return FullHistory() if draw(st.booleans()) else WindowSink(window, sink)


def naive_attention(
    held: list[int],
    q: Tensor,
    k: Tensor,
    v: Tensor,
    frames: Sequence[list[tuple[Tensor, Tensor]]] | None = None,
) -> list[Tensor]:
    """Attention of two active frames to the held frames in order of time.

    `frames` replaces the held frames' committed keys and values.
    """
    by = rotation(range(len(held) + 2), SHAPE.rows, SHAPE.columns, SHAPE.head_dim)
    now = rotation(range(len(held), len(held) + 2), SHAPE.rows, SHAPE.columns, SHAPE.head_dim)
    history = [(k[:, :0], v[:, :0])] * SHAPE.layers
    if held:
        history = end_to_end([frame_kv(frame) for frame in held] if frames is None else frames)
    return [
        attend(rotate(q, now), rotate(torch.cat([past_k, k], 1), by), torch.cat([past_v, v], 1))
        for past_k, past_v in history
    ]
