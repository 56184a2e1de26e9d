"""How a latent frame's keys and values are stored: as parts, the tensors of a codec."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from .shape import CacheShape


@dataclass(frozen=True, slots=True)
class Part:
    """Size and dtype of one stored tensor of a latent frame, in one layer and batch row."""

    size: tuple[int, ...]
    dtype: torch.dtype

    @property
    def bytes(self) -> int:
        """Bytes for one batch row."""
        return math.prod(self.size) * self.dtype.itemsize


class Codec(Protocol):
    """A way to code k and v."""

    def unsupported_reason(self, device: torch.device) -> str | None:
        """Why the codec cannot be used on `device`, or None."""

    def parts(self, shape: CacheShape) -> tuple[Part, ...]:
        """The parts of one latent frame: those of the keys, then as many of the values."""

    def encode(self, k: Tensor, v: Tensor) -> tuple[Tensor, ...]:
        """One frame's k and v (b, s, n, d) as parts (b, ...)."""

    def decode_into(self, parts: Sequence[Tensor], k: Tensor, v: Tensor) -> None:
        """Write frames' k and v (b, f, s, n, d), of any dtype, from parts (b, f, ...)."""


def decode(codec: Codec, parts: Sequence[Tensor], shape: CacheShape) -> tuple[Tensor, Tensor]:
    """Frames' k and v (b, f, s, n, d) in the cache's dtype, from parts (b, f, ...)."""
    size = *parts[0].shape[:2], shape.frame_tokens, shape.heads, shape.head_dim
    k, v = (parts[0].new_empty(size, dtype=shape.dtype) for _ in "kv")
    codec.decode_into(parts, k, v)
    return k, v


def coded_frame_bytes(codec: Codec, shape: CacheShape) -> int:
    """Bytes of one latent frame in one layer, all batch rows."""
    return shape.batch * sum(part.bytes for part in codec.parts(shape))


@dataclass(frozen=True, slots=True)
class AsComputed:
    """Keep the bits; for storage in another place."""

    def unsupported_reason(self, device: torch.device) -> str | None:
        """This codec works on every device."""
        return None

    def parts(self, shape: CacheShape) -> tuple[Part, ...]:
        """The parts of a frame: its keys and its values, in the computing dtype."""
        return (Part((shape.frame_tokens, shape.heads, shape.head_dim), shape.dtype),) * 2

    def encode(self, k: Tensor, v: Tensor) -> tuple[Tensor, ...]:
        """Keys and values, unchanged."""
        return k, v

    def decode_into(self, parts: Sequence[Tensor], k: Tensor, v: Tensor) -> None:
        """Keys and values, unchanged."""
        k.copy_(parts[0])
        v.copy_(parts[1])


AS_COMPUTED = AsComputed()
