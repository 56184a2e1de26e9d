"""The sizes of a KV cache, which together with policy and storage determine its bytes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch

from ..rope import Rotation, Turn, rotate_plain, rotation


@dataclass(frozen=True, slots=True)
class CacheShape:
    """Sizes of keys and values.

    `batch` counts guidance branches. A latent frame has `rows` x `columns` tokens. At most
    `chunk_frames` latent frames are active at once. `hold_rotated` keeps rotated keys of all
    layers, where the storage allows it: faster, but half as much memory again. Otherwise each layer
    call rotates into one shared buffer. `beside` are the sizes of further layers that hold the same
    latent frames, for a module that attends to the history too. `turn` rotates keys and queries.
    Dense attention of float32 tensors may multiply in the dtype of `products`. A token has the
    place in the middle of `step` x `step` places, counted as those of other caches are.
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
    beside: CacheShape | None = None
    turn: Turn = field(default=rotate_plain, compare=False, repr=False)
    products: torch.dtype = field(default=torch.float32, compare=False, repr=False)
    step: int = 1

    @property
    def all_layers(self) -> tuple[tuple[int, int], ...]:
        """Heads and head dimension of every layer, then of those beside."""
        more = () if self.beside is None else self.beside.all_layers
        return ((self.heads, self.head_dim),) * self.layers + more

    @property
    def frame_tokens(self) -> int:
        """Tokens of one latent frame."""
        return self.rows * self.columns

    def visible(self, frames: int, visible: Sequence[int] = ()) -> Sequence[int]:
        """How many active frames, from the front, each active frame sees; by default all.

        Raises ValueError for more active `frames` than `chunk_frames`.
        """
        if frames > self.chunk_frames:
            raise ValueError(
                f"at most {self.chunk_frames} latent frames may be active; got {frames}"
            )
        return visible or (frames,) * frames

    @property
    def frame_values(self) -> int:
        """Elements of one latent frame's keys (or values) in one layer."""
        return self.batch * self.frame_tokens * self.heads * self.head_dim

    def rotation(self, positions: Sequence[int], device: torch.device | str) -> Rotation:
        """The rotation of latent frames at `positions`."""
        grid = self.rows, self.columns
        plain = rotation(positions, *grid, self.head_dim, device, self.step)
        return replace(plain, turn=self.turn)
