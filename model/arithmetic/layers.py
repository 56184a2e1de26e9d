"""How linear layers are computed: by themselves, or by faster products of the same values.

A layer may be more than its weight and bias: patched, quantised, offloaded or hooked. Then it
computes by itself.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ...products import joined, product, suits_products
from ...rehearsed_device import device_kind

PARTS = ("weight", "bias")
"""The parameters of a linear layer."""


def lay_in_one(layers: Sequence[nn.Linear]) -> None:
    """Put the weights of layers one behind another, and their biases: for one product of all.

    They share a memory from then on. So `torch.save` of one writes all of them, safetensors'
    `save_model` refuses them (`save_file` does not), and none may change while gradients of another
    are still to come.
    """
    for name in PARTS:
        parts = [getattr(layer, name).detach() for layer in layers]
        rows = [len(part) for part in parts]
        whole = parts[0].new_empty(sum(rows), *parts[0].shape[1:])
        # `cat` would be shorter, but on meta tensors torch loads its compiler for that.
        for layer, part, place in zip(layers, parts, whole.split(rows), strict=True):
            setattr(layer, name, nn.Parameter(place.copy_(part)))


def is_plain_linear(layer: Any) -> bool:
    """Whether a layer is torch's own linear layer."""
    return type(layer) is nn.Linear


def is_plain_sequence(layers: Any) -> bool:
    """Whether layers are torch's own sequence."""
    return type(layers) is nn.Sequential


@dataclass(frozen=True, slots=True)
class Layers:
    """Calls layers. `is_plain` tells a linear layer that multiplies by its weight as it lies, and
    `is_sequence` layers that run one after another.
    """

    is_plain: Callable[[Any], bool] = is_plain_linear
    is_sequence: Callable[[Any], bool] = is_plain_sequence

    def linear(self, layer: Any, x: Tensor) -> Tensor:
        """What a linear layer makes of x (..., c)."""
        if self._multiplies(layer, x):
            return product(x, layer.weight, layer.bias)
        return layer(x)  # type: ignore[no-any-return]

    def linears(self, layers: Sequence[Any], x: Tensor) -> Sequence[Tensor]:
        """What each of several linear layers makes of x (..., c).

        Layers whose weights `lay_in_one` are multiplied together.
        """
        if all(self._multiplies(layer, x) for layer in layers):
            weight, bias = (joined([getattr(each, name) for each in layers]) for name in PARTS)
            if weight is not None and bias is not None:
                rows = [len(each.weight) for each in layers]
                return torch.split(product(x, weight, bias), rows, -1)
        return [self.linear(layer, x) for layer in layers]

    def mlp(self, layers: Any, x: Tensor) -> Tensor:
        """What a linear layer, GELU and another linear layer make of x (..., c)."""
        if not (self.is_sequence(layers) and _is_mlp(layers) and self._multiplies(layers[0], x)):
            return layers(x)  # type: ignore[no-any-return]
        first, _, last = layers
        return self.linear(last, product(x, first.weight, first.bias, gelu=True))

    def _multiplies(self, layer: Any, x: Tensor) -> bool:
        """Whether a layer is its float32 weight and bias alone, and a product of x gains."""
        if not self.is_plain(layer) or not _is_bare(layer):
            return False
        weight = layer.weight
        plain = type(weight) is nn.Parameter and weight.dtype is torch.float32
        return plain and device_kind(weight) == "cpu" and suits_products(x, len(weight))


TORCH_LAYERS = Layers()


def _is_bare(layer: Any) -> bool:
    """Whether nobody hooked a module or replaced its function."""
    own = layer.__dict__
    return not ("forward" in own or own["_forward_hooks"] or own["_forward_pre_hooks"])


def _is_mlp(layers: Any) -> bool:
    """Whether modules are two layers with a GELU in its tanh form between them, and no more."""
    if len(layers) != 3 or not _is_bare(layers):
        return False
    gelu: Any = layers[1]
    return type(gelu) is nn.GELU and gelu.approximate == "tanh" and _is_bare(gelu)
