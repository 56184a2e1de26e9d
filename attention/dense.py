"""Dense attention: the reference for every other way of attending."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from .kernels.fused import fused_attention
from .rope import Rotation, rotate


def attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
    """Softmax attention of q (b, s, n, d) over k, v (b, t, n, d).

    `mask` (s, t) is True where a query may look.
    """
    out = fused_attention(q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2), mask)
    return out.transpose(1, 2)  # (b, s, n, d)


Parts = tuple[tuple[slice, int], ...]
"""Runs of queries, and how many keys from the front each run sees."""


def parts(visible: Sequence[int], past_frames: int, frame_tokens: int) -> Parts:
    """Runs of active frames that see `past_frames` of history and equally many active frames.

    Active frame i sees the first `visible[i]` active frames.
    """
    frames = len(visible)
    starts = [i for i in range(frames) if i == 0 or visible[i] != visible[i - 1]]
    return tuple(
        (slice(a * frame_tokens, b * frame_tokens), (past_frames + visible[a]) * frame_tokens)
        for a, b in zip(starts, [*starts[1:], frames], strict=True)
    )


def attend_in_parts(q: Tensor, k: Tensor, v: Tensor, parts: Parts) -> Tensor:
    """Softmax attention of q (b, s, n, d), each part over its first keys of k, v (b, t, n, d)."""
    outputs = [attend(q[:, queries], k[:, :count], v[:, :count]) for queries, count in parts]
    return outputs[0] if len(outputs) == 1 else torch.cat(outputs, 1)


class WholeSequence:
    """Self-attention of one pass without a cache: every token is in the batch.

    `mask` (s, t) is True where a query may look.
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
    """The mask (s, s) bool of frames in chunks: True for keys of own and earlier chunks.

    `window_frames` limits the history to that many latent frames before the chunk.
    """
    frame = torch.arange(frames).repeat_interleave(frame_tokens)
    start = frame // chunk_frames * chunk_frames  # first frame of each token's chunk
    seen = frame[None, :] < start[:, None] + chunk_frames
    if window_frames is not None:
        seen &= frame[None, :] >= start[:, None] - window_frames
    return seen
