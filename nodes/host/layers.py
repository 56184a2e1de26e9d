"""Which of the host's layers are no more than their weights."""

from __future__ import annotations

from typing import Any

import comfy.ops
from torch import nn

FEED_FORWARD = ("comfy.ldm.wan.model", "WanFeedForward")
CHANGES = ("comfy_cast_weights", "weight_function", "bias_function")
"""What the host has on a layer that casts or patches its weight, and empty on others."""


def is_plain_linear(layer: Any) -> bool:
    """Whether a linear layer multiplies by its weight as it lies: no cast, no patch, not quantised.

    The core's own checks for an interrupt are left out, since every pass begins with one. A layer
    that does not say what the core changes computes by itself.
    """
    if type(layer) is nn.Linear:
        return True
    if type(layer).forward is not comfy.ops.disable_weight_init.Linear.forward:
        return False
    return not any(getattr(layer, name, True) for name in CHANGES)


def is_plain_sequence(layers: Any) -> bool:
    """Whether layers run one after another: torch's sequence, or the core's Wan feed-forward.

    The core's class computes what its three layers would, and exists in newer cores alone.
    """
    kind = type(layers)
    return kind is nn.Sequential or (kind.__module__, kind.__name__) == FEED_FORWARD
