"""Keys and values in few bits: keys by channel, values by token (KIVI, arXiv 2402.02750).

A codec turns one latent frame's keys and values into parts, the tensors that are stored, and back.
Channels of keys differ from one another and each is alike from token to token, so a group of tokens
has a scale for every channel; values have no such channels, so groups are taken within a token.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from .shape import CacheShape

SCALE = torch.float16
LEAST_SCALE = 2.0**-14  # float16's smallest normal number
ZERO_LIMIT = 112  # a zero point is an int8, with room for the codes
FLOAT8_MOST = 448.0  # e4m3


@dataclass(frozen=True, slots=True)
class Part:
    """One of the tensors that a latent frame is stored as, in one layer and batch row."""

    size: tuple[int, ...]
    dtype: torch.dtype

    @property
    def bytes(self) -> int:
        """Bytes for one batch row."""
        return math.prod(self.size) * self.dtype.itemsize


class Codec(Protocol):
    """A way to store k and v, and what it makes of them."""

    def unsupported_reason(self, device: torch.device) -> str | None:
        """Why it cannot be used on `device`, or None."""

    def parts(self, shape: CacheShape) -> tuple[Part, ...]:
        """The tensors for one latent frame: half of them for the keys, then for the values."""

    def encode(self, k: Tensor, v: Tensor) -> tuple[Tensor, ...]:
        """One frame's k and v (b, s, n, d) as parts (b, ...)."""

    def decode(self, parts: Sequence[Tensor], shape: CacheShape) -> tuple[Tensor, Tensor]:
        """Frames' k and v (b, f, s, n, d) in the cache's dtype, of parts (b, f, ...)."""


class RowCodec(Protocol):
    """A way to store vectors one by one, each with scales of its own."""

    @property
    def half_step(self) -> float:
        """How far a decoded value may be off, of its vector's largest one."""

    def row_parts(self, width: int) -> tuple[Part, ...]:
        """The tensors for one vector."""

    def encode_rows(self, x: Tensor) -> tuple[Tensor, ...]:
        """Vectors x (..., width) as parts (..., size)."""

    def decode_rows(self, parts: Sequence[Tensor], width: int, dtype: torch.dtype) -> Tensor:
        """Vectors (..., width) of their parts."""


@dataclass(frozen=True, slots=True)
class AsComputed:
    """Not changed at all; for storage in another place."""

    def unsupported_reason(self, device: torch.device) -> str | None:
        """None."""
        return None

    def parts(self, shape: CacheShape) -> tuple[Part, ...]:
        """Keys and values."""
        return (Part((shape.frame_tokens, shape.heads, shape.head_dim), shape.dtype),) * 2

    def encode(self, k: Tensor, v: Tensor) -> tuple[Tensor, ...]:
        """As they are."""
        return k, v

    def decode(self, parts: Sequence[Tensor], shape: CacheShape) -> tuple[Tensor, Tensor]:
        """As they are."""
        k, v = parts
        return k, v


@dataclass(frozen=True, slots=True)
class Float8:
    """e4m3, with a float32 scale for every frame and head that takes the largest value to 448."""

    def unsupported_reason(self, device: torch.device) -> str | None:
        """Old versions of torch, and some devices."""
        return float8_reason(device)

    def parts(self, shape: CacheShape) -> tuple[Part, ...]:
        """Codes and scales."""
        codes = Part((shape.frame_tokens, shape.heads, shape.head_dim), torch.float8_e4m3fn)
        return (codes, Part((1, shape.heads, 1), torch.float32)) * 2

    def encode(self, k: Tensor, v: Tensor) -> tuple[Tensor, ...]:
        """Codes (b, s, n, d) and scales (b, 1, n, 1)."""
        parts: list[Tensor] = []
        for x in (k, v):
            scale = x.float().abs().amax((1, 3), keepdim=True).clamp(min=2.0**-40) / FLOAT8_MOST
            parts += [(x.float() / scale).to(torch.float8_e4m3fn), scale]
        return tuple(parts)

    def decode(self, parts: Sequence[Tensor], shape: CacheShape) -> tuple[Tensor, Tensor]:
        """Codes times scales."""
        k, v = ((codes.float() * scale).to(shape.dtype) for codes, scale in (parts[:2], parts[2:]))
        return k, v

    @property
    def half_step(self) -> float:
        """Three bits of a mantissa."""
        return 2.0**-4

    def row_parts(self, width: int) -> tuple[Part, ...]:
        """Codes and a scale."""
        return Part((width,), torch.float8_e4m3fn), Part((1,), torch.float32)

    def encode_rows(self, x: Tensor) -> tuple[Tensor, ...]:
        """Each vector scaled so that its largest value is 448."""
        scale = x.float().abs().amax(-1, keepdim=True).clamp(min=2.0**-40) / FLOAT8_MOST
        return (x.float() / scale).to(torch.float8_e4m3fn), scale

    def decode_rows(self, parts: Sequence[Tensor], width: int, dtype: torch.dtype) -> Tensor:
        """Codes times scales."""
        codes, scale = parts
        return (codes.float() * scale).to(dtype)


@dataclass(frozen=True, slots=True)
class Integers:
    """Whole numbers of `bits`, 8 or 4, with a float16 scale for each group of values.

    A group of keys is at most `key_tokens` tokens of one channel, one of values at most
    `value_channels` channels of one token. With `zero_points` the range of a group is laid from its
    smallest to its largest value, an int8 saying where 0 lies; else evenly about 0.
    """

    bits: int
    key_tokens: int
    value_channels: int
    zero_points: bool

    def unsupported_reason(self, device: torch.device) -> str | None:
        """None."""
        return None

    def parts(self, shape: CacheShape) -> tuple[Part, ...]:
        """Codes, scales and perhaps zero points of keys, then of values."""
        tokens, width = shape.frame_tokens, shape.heads * shape.head_dim
        rows = tuple(replace(one, size=(tokens, *one.size)) for one in self.row_parts(width))
        by_channel = groups(tokens, self.key_tokens), width
        return (rows[0], *(replace(one, size=by_channel) for one in rows[1:]), *rows)

    @property
    def half_step(self) -> float:
        """A group's codes are laid over its range, at most from its largest value's negative on."""
        steps = (1 << self.bits) - (1 if self.zero_points else 2)
        return 1 / steps

    def row_parts(self, width: int) -> tuple[Part, ...]:
        """Codes, scales and perhaps zero points of its groups."""
        code, grouped = (
            torch.int8 if self.bits == 8 else torch.uint8,
            groups(width, self.value_channels),
        )
        scales = (Part((grouped,), SCALE), Part((grouped,), torch.int8))
        return (Part((width * self.bits // 8,), code), *scales[: 1 + self.zero_points])

    def encode(self, k: Tensor, v: Tensor) -> tuple[Tensor, ...]:
        """Codes (b, s, c) with c = n d, packed; scales and zero points of their groups."""
        of_keys = self._encoded(k.flatten(2).float().transpose(1, 2), self.key_tokens)
        keys = tuple(part.transpose(1, 2) for part in of_keys)
        return (self._packed(keys[0]), *keys[1:], *self.encode_rows(v.flatten(2)))

    def encode_rows(self, x: Tensor) -> tuple[Tensor, ...]:
        """Codes (..., c), packed; scales and zero points of their groups."""
        codes, *grouped = self._encoded(x.float().reshape(1, -1, x.shape[-1]), self.value_channels)
        parts = (self._packed(codes), *grouped)
        return tuple(part.view(*x.shape[:-1], -1) for part in parts)

    def decode(self, parts: Sequence[Tensor], shape: CacheShape) -> tuple[Tensor, Tensor]:
        """Codes, less the zero point, times the scale."""
        half = len(parts) // 2
        tokens, width = shape.frame_tokens, shape.heads * shape.head_dim
        size = group_size(tokens, self.key_tokens)
        k = self._decoded(parts[:half], -2, size, shape.dtype)
        v = self.decode_rows(parts[half:], width, shape.dtype)
        heads = shape.heads, shape.head_dim
        return k.unflatten(-1, heads), v.unflatten(-1, heads)

    def decode_rows(self, parts: Sequence[Tensor], width: int, dtype: torch.dtype) -> Tensor:
        """Codes, less the zero point, times the scale of their group."""
        return self._decoded(parts, -1, group_size(width, self.value_channels), dtype)

    def _encoded(self, x: Tensor, most: int) -> tuple[Tensor, ...]:
        """Codes (..., t) of x (..., t), and the scales and zero points (..., g) along t."""
        count, size = x.shape[-1], group_size(x.shape[-1], most)
        padded = F.pad(x, (0, groups(count, most) * size - count), mode="replicate")
        grouped = padded.unflatten(-1, (-1, size))  # (..., g, t of a group)
        low, high = grouped.aminmax(dim=-1)
        largest = torch.maximum(low.abs(), high.abs())
        if not self.zero_points:
            most_code = 2 ** (self.bits - 1) - 1
            scale = (largest / most_code).clamp(min=LEAST_SCALE).to(SCALE)
            codes = (grouped / scale.float().unsqueeze(-1)).round().clamp(-most_code, most_code)
            return codes.flatten(-2)[..., :count].to(torch.int8), scale
        most_code = 2**self.bits - 1
        scale = torch.maximum((high - low) / most_code, largest / ZERO_LIMIT)
        scale = scale.clamp(min=LEAST_SCALE).to(SCALE)
        zero = (-low / scale.float()).round().clamp(-128, 127)
        codes = (grouped / scale.float().unsqueeze(-1) + zero.unsqueeze(-1)).round()
        codes = codes.clamp(0, most_code).flatten(-2)[..., :count]
        return codes.to(torch.uint8), scale, zero.to(torch.int8)

    def _decoded(self, parts: Sequence[Tensor], dim: int, size: int, dtype: torch.dtype) -> Tensor:
        """Values (..., s, c) of codes and the scales of groups of `size` along `dim`."""
        codes, *grouped = parts
        codes = self._unpacked(codes).float()
        scale, *zero = (
            one.float().repeat_interleave(size, dim).narrow(dim, 0, codes.shape[dim])
            for one in grouped
        )
        return ((codes - zero[0] if zero else codes) * scale).to(dtype)

    def _packed(self, codes: Tensor) -> Tensor:
        if self.bits == 8:
            return codes
        low, high = codes.chunk(2, -1)
        return low | (high << 4)

    def _unpacked(self, codes: Tensor) -> Tensor:
        return codes if self.bits == 8 else torch.cat([codes & 15, codes >> 4], -1)


INT8 = Integers(bits=8, key_tokens=64, value_channels=96, zero_points=False)
INT4 = Integers(bits=4, key_tokens=64, value_channels=64, zero_points=True)
FLOAT8 = Float8()
AS_COMPUTED = AsComputed()


def groups(count: int, most: int) -> int:
    """How many groups of at most `most` it takes for `count`."""
    return -(-count // most)


def group_size(count: int, most: int) -> int:
    """Values in a group where groups are as even as they can be; the last one may be shorter."""
    return -(-count // groups(count, most))


def coded_frame_bytes(codec: Codec, shape: CacheShape) -> int:
    """Bytes of one latent frame in one layer, all batch rows."""
    return shape.batch * sum(part.bytes for part in codec.parts(shape))


@cache
def float8_reason(device: torch.device) -> str | None:
    """Why float8 cannot be used on `device`, or None."""
    if not hasattr(torch, "float8_e4m3fn"):
        return f"this torch ({torch.__version__}) has no float8"
    try:
        torch.ones(2, device=device).to(torch.float8_e4m3fn).float()
    except (RuntimeError, TypeError) as error:
        return f"{device.type} cannot convert float8 ({str(error).splitlines()[0]})"
    return None
