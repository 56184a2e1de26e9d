"""The states of all layers and heads, which latent frames are written into as they leave."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ..rope import Rotation
from ..storage.shape import CacheShape
from .rule import FrameWrites, memory_keys, memory_queries, read, write

FLOAT32_BYTES = 4


@dataclass(frozen=True, slots=True)
class Gates:
    """How strongly tokens are written, (b, f, s, n), and the decay of a frame, (b, f, n).

    Both are from 0 to 1.
    """

    strength: Tensor
    decay: Tensor


GatesOf = Callable[[int, Tensor], Gates]
"""(layer, values (b, f, s, n, d)) -> gates of the frames: the model's own layers."""


def frame_writes(k: Tensor, v: Tensor, gates: Gates, places: Rotation) -> FrameWrites:
    """What frames with un-rotated k and with v (b, f, s, n, d) write."""
    strength, decay = gates.strength.float().transpose(2, 3), gates.decay.float()
    return FrameWrites(memory_keys(k, places), v.float().transpose(2, 3), strength, decay)


def planned_bytes(shape: CacheShape) -> int:
    """Exact value of `DeltaState.bytes`."""
    values = shape.layers * shape.batch * shape.heads * shape.head_dim**2
    return FLOAT32_BYTES * values


class DeltaState:
    """States (layer, b, n, d, d) in float32. `gates` must be set before a frame is absorbed.

    `is_empty` until a frame was absorbed.
    """

    def __init__(self, shape: CacheShape, device: torch.device) -> None:
        size = shape.layers, shape.batch, shape.heads, shape.head_dim, shape.head_dim
        self.shape, self.values = shape, torch.zeros(size, device=device)
        self.gates: GatesOf | None = None
        self.absorbed = 0
        self._places: Rotation | None = None

    @property
    def bytes(self) -> int:
        """Bytes of the states of all layers."""
        return self.values.nbytes

    @property
    def is_empty(self) -> bool:
        """Whether no frame was absorbed, so that reading adds nothing."""
        return self.absorbed == 0

    def absorb(self, layer: int, k: Tensor, v: Tensor) -> None:
        """Write one latent frame's un-rotated k and v (b, s, n, d) into the state of a layer."""
        if self.gates is None:
            raise ValueError("a latent frame leaves the window, and the state has no gates")
        k, v = k.unsqueeze(1), v.unsqueeze(1)
        writes = frame_writes(k, v, self.gates(layer, v), self.places)
        self.values[layer] = write(self.values[layer], writes)

    def read(self, layer: int, q: Tensor, rows: slice) -> Tensor:
        """What the states of batch `rows` answer to un-rotated q (b, f s, n, d), shaped alike."""
        queries = memory_queries(q.unflatten(1, (-1, self.shape.frame_tokens)), self.places)
        answers = read(self.values[layer, rows].unsqueeze(1), queries)
        return answers.transpose(2, 3).flatten(1, 2).to(q.dtype)

    def clear(self) -> None:
        """Forget all latent frames: the states become zero."""
        self.values.zero_()
        self.absorbed = 0

    def move(self, device: torch.device) -> None:
        """Take the states to `device`, bit for bit."""
        self.values, self._places = self.values.to(device), None

    @property
    def places(self) -> Rotation:
        """The turns of a latent frame's tokens by row and column."""
        if self._places is None:
            self._places = self.shape.rotation([0], self.values.device)
        return self._places
