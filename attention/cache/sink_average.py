"""A sink that averages evicted frames into itself (Reward Forcing, arXiv 2512.04678: EMA sink).

sink <- a sink + (1 - a) evicted, for un-rotated keys and for values. At a = 0.999 a step is below
bfloat16's rounding, so the means are stored as separate float32 tensors.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

from ..storage.dense import KeysValues, frame_slice
from ..storage.shape import CacheShape

FLOAT32_BYTES = 4


def planned_bytes(shape: CacheShape, frames: int) -> int:
    """Exact value of `SinkMeans.bytes`."""
    return 2 * shape.layers * frames * shape.frame_values * FLOAT32_BYTES


class SinkMeans:
    """The float32 means of the first `frames` latent frames in all layers; `frames` may be 0."""

    def __init__(self, shape: CacheShape, frames: int, device: torch.device) -> None:
        self.shape, self.frames = shape, frames
        size = shape.batch, frames * shape.frame_tokens, shape.heads, shape.head_dim
        self._means = [
            tuple(torch.zeros(size, device=device) for _ in "kv") for _ in range(shape.layers)
        ]

    @property
    def bytes(self) -> int:
        """Bytes of all tensors held."""
        return sum(tensor.nbytes for means in self._means for tensor in means)

    def start(self, frame: int, layers: KeysValues) -> None:
        """Begin the mean of sink frame `frame` with its own k and v (b, s, n, d)."""
        at = frame_slice(self.shape, frame)
        for means, kv in zip(self._means, layers, strict=True):
            for mean, x in zip(means, kv, strict=True):
                mean[:, at] = x

    def blend(
        self, frame: int, evicted: Iterable[tuple[Tensor, Tensor]], decay: float
    ) -> KeysValues:
        """Average an evicted frame into sink frame `frame` and return the sink frame's k and v."""
        at = frame_slice(self.shape, frame)
        blended = []
        for means, kv in zip(self._means, evicted, strict=True):
            k, v = (mean[:, at] for mean in means)
            for mean, x in zip((k, v), kv, strict=True):
                mean.mul_(decay).add_(x.float(), alpha=1 - decay)
            blended.append((k, v))
        return blended

    def state(self) -> dict[str, Tensor]:
        """The means by name, copied to the CPU."""
        return {
            f"mean.{layer}.{i}": tensor.to("cpu", copy=True)
            for layer, means in enumerate(self._means)
            for i, tensor in enumerate(means)
            if self.frames
        }

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Take the means that `state` returned."""
        for layer, means in enumerate(self._means):
            for i, tensor in enumerate(means):
                if self.frames:
                    tensor.copy_(tensors[f"mean.{layer}.{i}"])

    def move(self, device: torch.device) -> None:
        """Take all tensors to `device`, bit for bit."""
        self._means = [tuple(tensor.to(device) for tensor in means) for means in self._means]
