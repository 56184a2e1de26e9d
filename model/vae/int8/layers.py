"""Layers of a tiny decoder whose features are codes from 0 to 255, in oneDNN's int8 kernels.

oneDNN sums the products exactly, in 32 bits. So a frame does not depend on how a video is split
into chunks, nor on the number of threads.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..memory_order import by_pixel, with_frame_before
from ..tiny import Growing, Remembering
from .units import HIGHEST_CODE, Units, in_units

HIGHEST_WEIGHT = 127
HIGHEST_PAIR = 128
"""The most that weights of one sign may sum to which read two neighbouring channels.

AVX2 adds the products of two channels in 16 bits, and 255 * 128 is all that these hold.
"""
ONE_TO_ONE = 1.0  # scale of codes whose units are in the weights already


def as_integers(weight: Tensor) -> tuple[Tensor, Tensor]:
    """A weight (o, c, h, w) as 8-bit integers, and the scale (o,) of each output's.

    No integer is above HIGHEST_WEIGHT and no pair above HIGHEST_PAIR. The scale of an output that
    reads nothing is 1.
    """
    single = weight.abs().amax((1, 2, 3)) / HIGHEST_WEIGHT
    pair = _largest_pairs(weight) / (HIGHEST_PAIR - 0.5)  # both may be rounded up by a half
    scale = torch.maximum(single, pair)
    scale[scale == 0] = 1
    return (weight / scale[:, None, None, None]).round().to(torch.int8), scale


def _largest_pairs(weight: Tensor) -> Tensor:
    """The largest sum (o,) of weights of one sign that read two neighbouring channels."""
    even = F.pad(weight, (0, 0, 0, 0, 0, weight.shape[1] % 2))
    pairs = even.unflatten(1, (-1, 2))
    sums = torch.maximum(pairs.relu().sum(2), (-pairs).relu().sum(2))
    return sums.amax((1, 2, 3))


class Int8Conv(nn.Module):
    """A convolution of codes whose weights are integers, times a scale for each output channel.

    It gives codes behind a ReLU, or signed codes, or without `gives` float32 values; the last two
    without a ReLU. It reads two channels or more: of one alone, AVX-512 without VNNI would add
    products of several rows in 16 bits.
    """

    def __init__(self, conv: nn.Conv2d, reads: Units, gives: Units | None) -> None:
        super().__init__()
        weight, bias = in_units(conv, reads.values, gives)
        integers, self._scale = as_integers(weight)
        self._bias, self._zeros = bias, torch.zeros(len(weight), dtype=torch.int32)
        self._from, self._to = reads.zero, 0 if gives is None else gives.zero
        self._dtype = torch.float32 if gives is None else torch.uint8
        self._after = "relu" if gives is not None and gives.zero == 0 else "none"
        self._place = [1, 1], [conv.kernel_size[0] // 2] * 2, [1, 1], 1
        self.channels = len(weight)
        self._packed = torch.ops.onednn.qconv_prepack(
            integers, self._scale, ONE_TO_ONE, self._from, *self._place
        )

    def forward(self, x: Tensor) -> Tensor:
        """Codes (..., c, h, w) to codes or values (..., o, h, w)."""
        y: Tensor = torch.ops.onednn.qconv2d_pointwise(
            by_pixel(x.flatten(0, -4)), ONE_TO_ONE, self._from,
            self._packed, self._scale, self._zeros, self._bias, *self._place,
            ONE_TO_ONE, self._to, self._dtype, self._after, [], "",
        )  # fmt: skip
        return y.view(*x.shape[:-3], *y.shape[1:])

    def added_to(self, other: Tensor, x: Tensor, unit: float) -> Tensor:
        """Codes `other` (..., o, h, w) times `unit`, plus what comes of x (..., c, h, w), behind a
        ReLU; all in the units that this gives.

        They take the memory of `other`.
        """
        y: Tensor = torch.ops.onednn.qconv2d_pointwise.binary(
            by_pixel(x.flatten(0, -4)), ONE_TO_ONE, self._from,
            self._packed, self._scale, self._zeros, by_pixel(other.flatten(0, -4)), self._bias,
            *self._place, ONE_TO_ONE, 0, self._dtype, unit, 0, "sum", 1.0, self._after, [], "",
        )  # fmt: skip
        return y.view(other.shape)


class IntoCodes(nn.Module):
    """A convolution of float32 values, to codes behind a ReLU."""

    def __init__(self, conv: nn.Conv2d, gives: Units) -> None:
        super().__init__()
        self._weight, self._bias = in_units(conv, torch.ones(conv.in_channels), gives)
        self._padding = conv.kernel_size[0] // 2

    def forward(self, x: Tensor) -> Tensor:
        """Values (b, t, c, h, w) to codes (b, t, o, h, w)."""
        y = torch.conv2d(x.flatten(0, 1), self._weight, self._bias, padding=self._padding)
        codes = y.round_().clamp_(0, HIGHEST_CODE).to(torch.uint8)
        return codes.view(*x.shape[:2], *codes.shape[1:])


class Int8MemoryBlock(Remembering):
    """A memory block on codes; what it reads is `unit` times as much in the units that it gives."""

    copied_bytes = 0  # its weights are packed

    def __init__(self, join: Int8Conv, middle: Int8Conv, out: Int8Conv, unit: float) -> None:
        super().__init__()
        self.join, self.middle, self.out, self.unit = join, middle, out, unit

    def forward(self, x: Tensor, past: Tensor | None) -> Tensor:
        """x (b, t, c, h, w), whose memory it takes; past (b, c, h, w), None before the first."""
        first = torch.zeros_like(x[:, :1]) if past is None else past.unsqueeze(1)
        y = self.middle(self.join(with_frame_before(x, first)))
        return self.out.added_to(x, y, self.unit)

    @property
    def pixel_bytes(self) -> int:
        """Bytes of the codes of one pixel."""
        return self.out.channels


class Int8Grow(Growing):
    """Turns one frame of codes into `frames`, each twice as large."""

    def __init__(self, split: Int8Conv, frames: int) -> None:
        super().__init__(frames)
        self.split = split
