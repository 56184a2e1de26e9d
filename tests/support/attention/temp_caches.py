"""TempCaches for tests: shape, keys and values by latent frame, and queries."""

from __future__ import annotations

import torch
from torch import Tensor

from longtake.attention.ann.nearest import Exact
from longtake.attention.cache.kv_cache import KVCache
from longtake.attention.storage.shape import CacheShape
from longtake.attention.temp_cache.cache import MergedCache
from longtake.attention.temp_cache.policy import TempCache
from longtake.tests.support.tiny_model import randn

TOKENS, HEADS, DIM = 6, 2, 12
SHAPE = CacheShape(layers=2, batch=1, heads=HEADS, head_dim=DIM, rows=2, columns=3, chunk_frames=3)
NEVER = 1.01  # a threshold that no cosine reaches


def frame_kv(frame: int, layer: int = 0, *, like: int | None = None) -> tuple[Tensor, Tensor]:
    """Keys and values (1, s, n, d) of a latent frame; with `like`, keys close to that frame's."""
    seed = 10 * frame + layer
    k, v = (randn(1, TOKENS, HEADS, DIM, seed=2 * seed + i) for i in range(2))
    if like is not None:
        k = randn(1, TOKENS, HEADS, DIM, seed=2 * (10 * like + layer)) + 0.1 * k
    return k, v


def chunk_kv(frames: range, similar: int = 10**6) -> list[tuple[Tensor, Tensor]]:
    """Keys and values of every layer; frames from `similar` on resemble frame f mod 3."""
    layers = []
    for layer in range(SHAPE.layers):
        made = [frame_kv(f, layer, like=f % 3 if f >= similar else None) for f in frames]
        layers.append((torch.cat([k for k, _ in made], 1), torch.cat([v for _, v in made], 1)))
    return layers


def fill_cache(policy: TempCache, frames: int, similar: int = 10**6, chunk: int = 1) -> MergedCache:
    """A cache with `frames` frames committed."""
    cache = MergedCache(SHAPE, policy, Exact())
    fill(cache, 0, frames, similar, chunk)
    return cache


def fill(cache: MergedCache | KVCache, first: int, frames: int, similar: int, chunk: int) -> None:
    """Run a pass over each chunk and commit it."""
    for start in range(first, frames, chunk):
        stop = min(start + chunk, frames)
        kv = chunk_kv(range(start, stop), similar)
        attention = cache.attention_of_commit((stop - start,) * (stop - start))
        for layer, (k, v) in enumerate(kv):
            attention(layer, k, k, v)
        cache.commit(kv)


def queries(frames: int = 2) -> tuple[Tensor, Tensor, Tensor]:
    """q, k, v (1, s, n, d) of active frames."""
    q, k, v = (randn(1, frames * TOKENS, HEADS, DIM, seed=900 + i) for i in range(3))
    return q, k, v


def softmax_attention(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None = None) -> Tensor:
    """Attention (b, s, n, d) by the formula."""
    logits = torch.einsum("bsnd,btnd->bnst", q, k) / q.shape[-1] ** 0.5
    logits = logits if bias is None else logits + bias[:, :, None]
    return torch.einsum("bnst,btnd->bsnd", logits.softmax(-1), v)
