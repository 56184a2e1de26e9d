"""Weights in the order in which oneDNN multiplies by them.

Otherwise every product brings its weight into that order first. Weights of layers that read the
same tokens are put one behind another here, so that one product serves all of them. In bfloat16 a
product reads half the bytes, and takes half the time on CPUs that have instructions for it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ...products import pack

MOST_BYTES = 64 << 20
"""Bytes of a model's weights that are kept twice, so. Of larger ones a product takes so long that
the order of its weight hardly counts."""


@dataclass(frozen=True, slots=True)
class Packed:
    """The weight of `layers`, for `product`, their biases (n,), and how many outputs each has."""

    layers: tuple[Any, ...]
    weight: Tensor
    bias: Tensor | None
    outputs: tuple[int, ...]


class PackedWeights:
    """Packs weights in a `dtype` at their first product, as long as there is room.

    The owner calls `renew` before the next product whenever weights may have changed.
    """

    def __init__(self, dtype: torch.dtype = torch.float32, most_bytes: int = MOST_BYTES) -> None:
        self.dtype, self._most_bytes = dtype, most_bytes
        self._version: object = None
        self._packed: dict[tuple[int, ...], Packed | None] = {}
        self._bytes = 0

    def renew(self, version: object) -> None:
        """Take over the weights of a `version`; those of another, or of none, are dropped."""
        if version is None or version != self._version:
            self._version, self._bytes = version, 0
            self._packed.clear()

    def of(self, layers: Sequence[Any]) -> Packed | None:
        """The packed weight of plain float32 layers on a CPU; None where there is no room left."""
        key = tuple(map(id, layers))
        if key not in self._packed:
            self._packed[key] = self._pack(tuple(layers))
        return self._packed[key]

    def _pack(self, layers: tuple[Any, ...]) -> Packed | None:
        weights, biases = ([getattr(each, name) for each in layers] for name in ("weight", "bias"))
        count = sum(weight.numel() for weight in weights) * self.dtype.itemsize
        some, every = (fits(bias is not None for bias in biases) for fits in (any, all))
        if self._bytes + count > self._most_bytes or some != every:
            return None
        self._bytes += count
        with torch.no_grad():
            weight = pack(_join(weights).to(self.dtype))
            bias = _join(biases).to(self.dtype) if every else None
            return Packed(layers, weight, bias, tuple(map(len, weights)))


def _join(tensors: Sequence[Tensor]) -> Tensor:
    """Tensors one behind another; a single one is not copied."""
    return tensors[0] if len(tensors) == 1 else torch.cat([*tensors])
