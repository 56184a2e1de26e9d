"""Keys and values for tests of sparse self-attention."""

from __future__ import annotations

from torch import Tensor

from longtake.attention.storage.shape import CacheShape
from longtake.tests.support.tiny_model import randn

SHAPE = CacheShape(layers=2, batch=1, heads=3, head_dim=12, rows=3, columns=7, chunk_frames=3)
TOKENS = SHAPE.frame_tokens


def kv(frame: int) -> list[tuple[Tensor, Tensor]]:
    """Keys and values (1, s, n, d) of one latent frame, every layer's."""
    seeds = range(4 * frame, 4 * frame + 2 * SHAPE.layers, 2)
    return [(randn(1, TOKENS, 3, 12, seed=i), randn(1, TOKENS, 3, 12, seed=i + 1)) for i in seeds]
