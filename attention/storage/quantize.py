"""Keys and values in few bits: keys by channel, values by token (KIVI, arXiv 2402.02750).

Key channels differ from one another but vary little from token to token, so a group of tokens
has one scale per channel. Values have no such channels, so groups lie within a token.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from .codec import Part
from .shape import CacheShape

SCALE = torch.float16
MIN_SCALE, MAX_SCALE = 2.0**-14, torch.finfo(SCALE).max  # float16's normal numbers
ZERO_LIMIT = 112  # a zero point is an int8, with room for the codes
FLOAT8_MAX = 448.0  # e4m3


class RowCodec(Protocol):
    """A way to code vectors one by one, each with its own scales."""

    @property
    def half_step(self) -> float:
        """The largest error of a value decoded to float32, relative to its vector's largest."""

    def row_parts(self, width: int) -> tuple[Part, ...]:
        """The parts of one vector."""

    def encode_rows(self, x: Tensor) -> tuple[Tensor, ...]:
        """Vectors x (..., width) as parts (..., size)."""

    def decode_rows(self, parts: Sequence[Tensor], width: int, dtype: torch.dtype) -> Tensor:
        """Vectors (..., width) from their parts."""


@dataclass(frozen=True, slots=True)
class Float8:
    """e4m3 with a float32 scale per frame and head, which maps the largest value to 448."""

    def unsupported_reason(self, device: torch.device) -> str | None:
        """Why float8 cannot be used on `device`, or None."""
        return float8_reason(device)

    def parts(self, shape: CacheShape) -> tuple[Part, ...]:
        """The parts of a frame: codes and scales of its keys, then of its values."""
        codes = Part((shape.frame_tokens, shape.heads, shape.head_dim), torch.float8_e4m3fn)
        return (codes, Part((1, shape.heads, 1), torch.float32)) * 2

    def encode(self, k: Tensor, v: Tensor) -> tuple[Tensor, ...]:
        """Codes (b, s, n, d) and scales (b, 1, n, 1)."""
        parts: list[Tensor] = []
        for x in (k, v):
            scale = x.float().abs().amax((1, 3), keepdim=True).clamp(min=2.0**-40) / FLOAT8_MAX
            parts += [(x.float() / scale).to(torch.float8_e4m3fn), scale]
        return tuple(parts)

    def decode_into(self, parts: Sequence[Tensor], k: Tensor, v: Tensor) -> None:
        """Write codes times their scales."""
        for into, (codes, scale) in ((k, parts[:2]), (v, parts[2:])):
            _scale_into(into, codes, scale)

    @property
    def half_step(self) -> float:
        """Half a step of a mantissa of three bits."""
        return 2.0**-4

    def row_parts(self, width: int) -> tuple[Part, ...]:
        """Codes and a scale."""
        return Part((width,), torch.float8_e4m3fn), Part((1,), torch.float32)

    def encode_rows(self, x: Tensor) -> tuple[Tensor, ...]:
        """Scale each vector so that its largest value becomes 448."""
        scale = x.float().abs().amax(-1, keepdim=True).clamp(min=2.0**-40) / FLOAT8_MAX
        return (x.float() / scale).to(torch.float8_e4m3fn), scale

    def decode_rows(self, parts: Sequence[Tensor], width: int, dtype: torch.dtype) -> Tensor:
        """Vectors (..., width) in `dtype`, from their codes and scales."""
        codes, scale = parts
        values = codes.new_empty(codes.shape, dtype=dtype)
        _scale_into(values, codes, scale)
        return values


@dataclass(frozen=True, slots=True)
class Integers:
    """Integers of `bits`, 8 or 4, with a float16 scale for each group of values.

    A group of keys is at most `key_tokens` tokens of one channel. A group of values is at most
    `value_channels` channels of one token. With `zero_points` the codes span a group's smallest to
    its largest value, and an int8 says which code stands for 0; otherwise they are symmetric.
    """

    bits: int
    key_tokens: int
    value_channels: int
    zero_points: bool

    def unsupported_reason(self, device: torch.device) -> str | None:
        """Integers work on every device."""
        return None

    def parts(self, shape: CacheShape) -> tuple[Part, ...]:
        """Codes, scales and any zero points of keys, then of values."""
        tokens, width = shape.frame_tokens, shape.heads * shape.head_dim
        rows = tuple(replace(row, size=(tokens, *row.size)) for row in self.row_parts(width))
        by_channel = groups(tokens, self.key_tokens), width
        return (rows[0], *(replace(row, size=by_channel) for row in rows[1:]), *rows)

    @property
    def half_step(self) -> float:
        """Half a code step; the codes of a group span at most twice its largest value."""
        steps = (1 << self.bits) - (1 if self.zero_points else 2)
        return 1 / steps

    def row_parts(self, width: int) -> tuple[Part, ...]:
        """Codes, scales and any zero points of its groups."""
        code, grouped = (
            torch.int8 if self.bits == 8 else torch.uint8,
            groups(width, self.value_channels),
        )
        scales = (Part((grouped,), SCALE), Part((grouped,), torch.int8))
        return (Part((width * self.bits // 8,), code), *scales[: 1 + self.zero_points])

    def encode(self, k: Tensor, v: Tensor) -> tuple[Tensor, ...]:
        """Packed codes (b, s, c) with c = n d, and scales and zero points of their groups."""
        coded = self._encode_groups(k.flatten(2).float().transpose(1, 2), self.key_tokens)
        keys = tuple(part.transpose(1, 2) for part in coded)
        return (self._pack(keys[0]), *keys[1:], *self.encode_rows(v.flatten(2)))

    def encode_rows(self, x: Tensor) -> tuple[Tensor, ...]:
        """Packed codes (..., c), and scales and zero points of their groups."""
        codes, *grouped = self._encode_groups(
            x.float().reshape(1, -1, x.shape[-1]), self.value_channels
        )
        parts = (self._pack(codes), *grouped)
        return tuple(part.view(*x.shape[:-1], -1) for part in parts)

    def decode_into(self, parts: Sequence[Tensor], k: Tensor, v: Tensor) -> None:
        """Write codes minus the zero point, times the scale."""
        half = len(parts) // 2
        keys, values = (x.view(*x.shape[:3], -1) for x in (k, v))
        tokens, width = keys.shape[2:]
        self._decode_groups(keys, parts[:half], -2, group_size(tokens, self.key_tokens))
        self._decode_groups(values, parts[half:], -1, group_size(width, self.value_channels))

    def decode_rows(self, parts: Sequence[Tensor], width: int, dtype: torch.dtype) -> Tensor:
        """Codes minus the zero point, times the scale of their group."""
        values = parts[0].new_empty(*parts[0].shape[:-1], width, dtype=dtype)
        self._decode_groups(values, parts, -1, group_size(width, self.value_channels))
        return values

    def _encode_groups(self, x: Tensor, max_size: int) -> tuple[Tensor, ...]:
        """Codes (..., t) of x (..., t), and the scales and zero points (..., g) along t."""
        count, size = x.shape[-1], group_size(x.shape[-1], max_size)
        padded = F.pad(x, (0, groups(count, max_size) * size - count), mode="replicate")
        grouped = padded.unflatten(-1, (-1, size))  # (..., g, t of a group)
        low, high = grouped.aminmax(dim=-1)
        largest = torch.maximum(low.abs(), high.abs())
        if not self.zero_points:
            max_code = 2 ** (self.bits - 1) - 1
            scale = (largest / max_code).clamp(MIN_SCALE, MAX_SCALE).to(SCALE)
            codes = (grouped / scale.float().unsqueeze(-1)).round().clamp(-max_code, max_code)
            return codes.flatten(-2)[..., :count].to(torch.int8), scale
        max_code = 2**self.bits - 1
        scale = torch.maximum((high - low) / max_code, largest / ZERO_LIMIT)
        scale = scale.clamp(MIN_SCALE, MAX_SCALE).to(SCALE)
        zero = (-low / scale.float()).round().clamp(-128, 127)
        codes = (grouped / scale.float().unsqueeze(-1) + zero.unsqueeze(-1)).round()
        codes = codes.clamp(0, max_code).flatten(-2)[..., :count]
        return codes.to(torch.uint8), scale, zero.to(torch.int8)

    def _decode_groups(self, values: Tensor, parts: Sequence[Tensor], dim: int, size: int) -> None:
        """Write values (..., s, c) of codes and the scales of groups of `size` along `dim`.

        Half precision holds any code less a zero point. So a value is rounded once, as the product
        in float32 is written, and no float32 copy is made.
        """
        codes, *grouped = parts
        values.copy_(self._unpack(codes))
        count = values.shape[dim]
        whole = count // size
        groups_at = ((0, whole, size), (whole, 1, count - whole * size))  # the last may be shorter
        for first, number, tokens in groups_at:
            if not number * tokens:
                continue
            at, shape = (dim, first * size, number * tokens), (number, tokens)
            into = values.narrow(*at).unflatten(dim, shape)
            scale, *zero = (x.narrow(dim, first, number).unsqueeze(dim) for x in grouped)
            if zero:
                into -= zero[0]
            into *= scale.float()

    def _pack(self, codes: Tensor) -> Tensor:
        if self.bits == 8:
            return codes
        low, high = codes.chunk(2, -1)
        return low | (high << 4)

    def _unpack(self, codes: Tensor) -> Tensor:
        return codes if self.bits == 8 else torch.cat([codes & 15, codes >> 4], -1)


INT8 = Integers(bits=8, key_tokens=64, value_channels=96, zero_points=False)
INT4 = Integers(bits=4, key_tokens=64, value_channels=64, zero_points=True)
FLOAT8 = Float8()


def _scale_into(into: Tensor, codes: Tensor, scale: Tensor) -> None:
    """Write codes, which any dtype of a cache holds, times a scale; rounded as they are written."""
    into.copy_(codes)
    into *= scale


def groups(count: int, max_size: int) -> int:
    """The fewest groups of at most `max_size` that hold `count` values."""
    return -(-count // max_size)


def group_size(count: int, max_size: int) -> int:
    """Values in a group if groups are as even as possible; the last group may be shorter."""
    return -(-count // groups(count, max_size))


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
