"""The sizes of a KV cache: everything that decides its bytes but policy and storage."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch


@dataclass(frozen=True, slots=True)
class CacheShape:
    """Sizes of keys and values.

    `batch` counts guidance branches; `rows` x `columns` are tokens per latent frame; `chunk_frames`
    is the most latent frames that are active at once; `hold_rotated` keeps rotated keys of all
    layers for a chunk (faster, half as much memory again) instead of rotating into one shared
    buffer at each layer call, where the storage allows it.
    """

    layers: int
    batch: int
    heads: int
    head_dim: int
    rows: int
    columns: int
    chunk_frames: int
    dtype: torch.dtype = torch.float32
    hold_rotated: bool = True

    @property
    def frame_tokens(self) -> int:
        """Tokens of one latent frame."""
        return self.rows * self.columns

    def visible(self, frames: int, visible: Sequence[int] = ()) -> Sequence[int]:
        """How many of the active `frames`, from the front, each may look at: all unless told.

        Raises ValueError if more are active than there is room for.
        """
        if frames > self.chunk_frames:
            raise ValueError(
                f"at most {self.chunk_frames} latent frames may be active; got {frames}"
            )
        return visible or (frames,) * frames

    @property
    def frame_values(self) -> int:
        """Elements of one latent frame's keys, or values, in one layer."""
        return self.batch * self.frame_tokens * self.heads * self.head_dim
