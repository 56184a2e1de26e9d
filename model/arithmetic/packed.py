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

from ...machine.products import pack

PRODUCTS_BEFORE = 7
"""Products of a weight as it lies, with the same bits, before it is brought into oneDNN's order.

That takes as long as some fifteen products gain, and a first picture would wait for it. No shot of
up to six steps does: the first chunk reads a weight once a step.
"""
MOST_BYTES = 64 << 20
"""Bytes of a model's weights that are kept twice, so. Of larger ones a product takes so long that
the order of its weight hardly counts."""


@dataclass(slots=True)
class Packed:
    """The weight of `layers`, for `product`, their biases (n,), and how many outputs each has.

    `products` counts those that read the weight as it lies.
    """

    layers: tuple[Any, ...]
    weight: Tensor
    bias: Tensor | None
    outputs: tuple[int, ...]
    products: int = 0

    def count(self) -> None:
        """Count a product that is about to be made; one of them puts the weight in order."""
        if self.products < PRODUCTS_BEFORE:
            self.products += 1
        elif not self.weight.is_mkldnn:
            self.weight = pack(self.weight)


class PackedWeights:
    """Joins weights in a `dtype` at their first product, and packs them at a later one, as long as
    there is room.

    The owner calls `renew` before the next product whenever weights may have changed.
    """

    def __init__(self, dtype: torch.dtype = torch.float32, most_bytes: int = MOST_BYTES) -> None:
        self.dtype, self._most_bytes = dtype, most_bytes
        self._version: object = None
        self._packed: dict[tuple[int, ...], Packed | None] = {}
        self._bytes = 0

    @property
    def bytes(self) -> int:
        """Bytes of the weights that are kept."""
        return self._bytes

    def renew(self, version: object) -> None:
        """Take over the weights of a `version`; those of another, or of none, are dropped."""
        if version is None or version != self._version:
            self._version, self._bytes = version, 0
            self._packed.clear()

    def of(self, layers: Sequence[Any]) -> Packed | None:
        """The packed weight of plain float32 layers on a CPU; None where there is no room left."""
        key = tuple(map(id, layers))
        if key not in self._packed:
            self._packed[key] = self._join(tuple(layers))
        packed = self._packed[key]
        if packed is not None:
            packed.count()
        return packed

    def _join(self, layers: tuple[Any, ...]) -> Packed | None:
        weights, biases = ([getattr(each, name) for each in layers] for name in ("weight", "bias"))
        count = sum(weight.numel() for weight in weights) * self.dtype.itemsize
        some, every = (fits(bias is not None for bias in biases) for fits in (any, all))
        if self._bytes + count > self._most_bytes or some != every:
            return None
        self._bytes += count
        with torch.no_grad():
            weight = _join(weights).detach().to(self.dtype)
            bias = _join(biases).to(self.dtype) if every else None
            return Packed(layers, weight, bias, tuple(map(len, weights)))


def _join(tensors: Sequence[Tensor]) -> Tensor:
    """Tensors one behind another; a single one is not copied."""
    return tensors[0] if len(tensors) == 1 else torch.cat([*tensors])
