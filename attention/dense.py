"""Dense attention: the reference that every other way of attending is compared with."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from .rope import Rotation, rotate


def attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
    """Softmax attention of q (b, s, n, d) over k, v (b, t, n, d).

    `mask` (s, t), True where a query may look.
    """
    out = F.scaled_dot_product_attention(
        q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2), attn_mask=mask
    )
    return out.transpose(1, 2)  # (b, s, n, d)


class WholeSequence:
    """Self-attention of one pass without a cache.

    Every token is in the batch, `mask` says who sees whom.
    """

    def __init__(self, rotation: Rotation, mask: Tensor | None = None) -> None:
        self.rotation = rotation
        self.mask = mask

    def __call__(self, layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Attend un-rotated q, k, v (b, s, n, d) of one layer."""
        return attend(rotate(q, self.rotation), rotate(k, self.rotation), v, self.mask)


def block_causal_mask(
    frames: int, frame_tokens: int, chunk_frames: int, window_frames: int | None = None
) -> Tensor:
    """Who sees whom when frames come in chunks: (s, s) bool, True for own and earlier chunks.

    `window_frames` limits the history to that many latent frames before the chunk.
    """
    frame = torch.arange(frames).repeat_interleave(frame_tokens)
    start = frame // chunk_frames * chunk_frames  # first frame of each token's chunk
    seen = frame[None, :] < start[:, None] + chunk_frames
    if window_frames is not None:
        seen &= frame[None, :] >= start[:, None] - window_frames
    return seen
