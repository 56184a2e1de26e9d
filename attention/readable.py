"""Keys that a head does not read are left out of dense attention, not only hidden.

Where heads hold keys of different latent frames, each head's readable keys move to the front, as
many as the head with the most has; what is left over in other heads is hidden. How many there are
is asked once a chunk, for all layers together, since the answer waits for the device.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from .layout import AttentionInputs

NOT_READ = -math.inf


class KeyCounts:
    """How many keys the heads of one history read, until the history changes."""

    def __init__(self) -> None:
        self._by_rule: dict[tuple[int, tuple[bool, ...]], list[int]] = {}

    def clear(self) -> None:
        """Forget all counts: the history has changed."""
        self._by_rule.clear()

    def most(
        self,
        layer: int,
        next_frame: int,
        weights: Sequence[float],
        count: Callable[[Tensor], list[int]],
    ) -> int:
        """The most keys that a head of `layer` reads where keys of each age have these `weights`.

        `count` is asked for all layers at once, with which of the weights are read, (w,) bool.
        """
        read = tuple(weight != NOT_READ for weight in weights)
        if (next_frame, read) not in self._by_rule:
            self._by_rule[next_frame, read] = count(torch.tensor(read))
        return self._by_rule[next_frame, read][layer]


def leave_out_keys(inputs: AttentionInputs, most: int) -> AttentionInputs:
    """The inputs with `most` of the history's keys: each head's readable ones, then hidden ones.

    `frames` no longer tells the latent frames of keys. A rehearsal copies all keys.
    """
    past = inputs.past
    if inputs.bias is None or (most == past and not inputs.keys.is_meta):
        return inputs
    bias, own = inputs.bias[:, :, :past], inputs.bias[:, :, past:]
    index, padding = _readable(bias, most)
    bias = torch.cat([bias.gather(2, index).masked_fill(padding, NOT_READ), own], 2)
    keys, values = (
        torch.cat([_gather(x[:, :, :past], index), x[:, :, past:]], 2)
        for x in (inputs.keys, inputs.values)
    )
    frames = [-1] * -(-most // inputs.frame_tokens)
    return replace(inputs, keys=keys, values=values, bias=bias, past=most, frames=frames)


def _readable(bias: Tensor, most: int) -> tuple[Tensor, Tensor]:
    """The numbers (b, n, most) of keys with a finite bias (b, n, t), and where there are fewer."""
    readable = bias > NOT_READ
    place = readable.cumsum(-1) - 1
    place = place.masked_fill(~readable, most).clamp(max=most)  # all others in a place behind
    numbers = torch.arange(bias.shape[2], device=bias.device).expand_as(place)
    index = place.new_zeros(*bias.shape[:2], most + 1).scatter_(2, place, numbers)
    padding = torch.arange(most, device=bias.device) >= readable.sum(-1, keepdim=True)
    return index[..., :most], padding


def _gather(x: Tensor, index: Tensor) -> Tensor:
    """The keys (b, n, m, d) of x (b, n, t, d) at `index` (b, n, m)."""
    return x.gather(2, index.unsqueeze(-1).expand(*index.shape, x.shape[-1]))
