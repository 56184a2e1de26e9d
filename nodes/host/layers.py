"""Which of the host's layers are no more than their weights."""

from __future__ import annotations

from typing import Any

import comfy.ops
from torch import nn


def is_plain_linear(layer: Any) -> bool:
    """Whether a linear layer multiplies by its weight as it lies: no cast, no patch, not quantised.

    The core's own checks for an interrupt are left out, since every pass begins with one.
    """
    if type(layer) is nn.Linear:
        return True
    if type(layer).forward is not comfy.ops.disable_weight_init.Linear.forward:
        return False
    return not (layer.comfy_cast_weights or layer.weight_function or layer.bias_function)


def is_plain_sequence(layers: Any) -> bool:
    """Whether layers run one after another: torch's sequence, or the core's Wan feed-forward, which
    has the same values.
    """
    return type(layers) is nn.Sequential or type(layers).__name__ == "WanFeedForward"
