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

from ...machine.products import product, suits_products
from ...machine.rehearsed_device import device_kind
from .packed import PackedWeights


def is_plain_linear(layer: Any) -> bool:
    """Whether a layer is torch's own linear layer."""
    return type(layer) is nn.Linear


def is_plain_sequence(layers: Any) -> bool:
    """Whether layers are torch's own sequence."""
    return type(layers) is nn.Sequential


@dataclass(frozen=True, slots=True)
class Layers:
    """Calls layers. `is_plain` tells a linear layer that multiplies by its weight as it lies, and
    `is_sequence` layers that run one after another. Products take weights as `packed` has them.
    """

    is_plain: Callable[[Any], bool] = is_plain_linear
    is_sequence: Callable[[Any], bool] = is_plain_sequence
    packed: PackedWeights | None = None

    @property
    def products(self) -> torch.dtype:
        """The dtype in which products are made of float32 values."""
        return torch.float32 if self.packed is None else self.packed.dtype

    def linear(self, layer: Any, x: Tensor) -> Tensor:
        """What a linear layer makes of x (..., c)."""
        if self._multiplies(layer, x):
            return self._product(layer, x).to(x.dtype)
        return layer(x)  # type: ignore[no-any-return]

    def linears(self, layers: Sequence[Any], x: Tensor) -> Sequence[Tensor]:
        """What each of several linear layers makes of x (..., c): one product, if they are packed
        together.
        """
        return self._together(layers, x) or [self.linear(layer, x) for layer in layers]

    def _together(self, layers: Sequence[Any], x: Tensor) -> Sequence[Tensor] | None:
        """The layers' outputs by one product; None if they do not fit in one or gain nothing."""
        if self.packed is None or not self._multiplies(layers[0], x):
            return None
        outputs = [self._outputs(layer) for layer in layers]
        if not all(outputs):
            return None
        if x.is_meta:  # a rehearsal, which packs nothing
            return x.new_empty(*x.shape[:-1], sum(outputs)).split_with_sizes(outputs, -1)
        packed = self.packed.of(layers)
        if packed is None:
            return None
        out = product(x.to(packed.weight.dtype), packed.weight, packed.bias).to(x.dtype)
        return out.split_with_sizes(packed.outputs, -1)

    def mlp(self, layers: Any, x: Tensor) -> Tensor:
        """What a linear layer, GELU and another linear layer make of x (..., c)."""
        if not (self.is_sequence(layers) and _is_mlp(layers) and self._multiplies(layers[0], x)):
            return layers(x)  # type: ignore[no-any-return]
        first, _, last = layers
        hidden = self._product(first, x, gelu=True)
        if self._weight_alone(last) is not None:  # as many multiplications as before
            return self._product(last, hidden).to(x.dtype)
        return self.linear(last, hidden.to(x.dtype))

    def _product(self, layer: Any, x: Tensor, *, gelu: bool = False) -> Tensor:
        """The product of x with a layer's weight, in the dtype in which that is packed."""
        packed = None if self.packed is None or x.is_meta else self.packed.of([layer])
        source = layer if packed is None else packed
        return product(x.to(source.weight.dtype), source.weight, source.bias, gelu=gelu)

    def _multiplies(self, layer: Any, x: Tensor) -> bool:
        """Whether a layer is its float32 weight and bias alone, and a product of x gains."""
        outputs = self._outputs(layer)
        return outputs > 0 and suits_products(x, outputs, self.products)

    def _outputs(self, layer: Any) -> int:
        """How many outputs a product of a layer's weight has; 0 where there can be none."""
        weight = self._weight_alone(layer)
        return 0 if weight is None else weight.shape[0]

    def _weight_alone(self, layer: Any) -> Tensor | None:
        """The weight of a layer that is its float32 weight and bias alone on a CPU, else None.

        Every product asks, so the weight is read where a module keeps it.
        """
        if not self.is_plain(layer) or not _is_bare(layer):
            return None
        weight = layer.__dict__["_parameters"].get("weight")
        if type(weight) is not nn.Parameter or weight.dtype is not torch.float32:
            return None
        return weight if device_kind(weight) == "cpu" else None


TORCH_LAYERS = Layers()


def _is_bare(layer: Any) -> bool:
    """Whether nobody hooked a module or replaced its function.

    Who gives back a function that was replaced leaves the module's own one on the module.
    """
    own = layer.__dict__
    forward = own.get("forward")
    is_own = forward is None or getattr(forward, "__func__", None) is type(layer).forward
    return is_own and not (own["_forward_hooks"] or own["_forward_pre_hooks"])


def _is_mlp(layers: Any) -> bool:
    """Whether modules are two layers with a GELU in its tanh form between them, and no more."""
    if len(layers) != 3 or not _is_bare(layers):
        return False
    gelu: Any = layers[1]
    return type(gelu) is nn.GELU and gelu.approximate == "tanh" and _is_bare(gelu)
