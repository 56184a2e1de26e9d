"""The layers of a state beside self-attention: gates, and a projection that begins at zero.

The state's keys, values and queries are those of self-attention, so the KV cache holds all that is
written when a latent frame leaves it. The gates read the values, which no camera turns. As in SANA
(NVlabs/Sana 3e37813, `sana_gdn_blocks.py`): the write strength begins at .993, the decay of a frame
at .993 and the output gate at 1. Left out: its convolution along time and its A_log, a factor on
the decay that the linear layer has already. A projection of zero gives the bits of the model
without it; the layers are named `self_attn.delta.*` and the file stays a genuine Wan checkpoint.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..attention.delta.rule import memory_queries, read, states_before
from ..attention.delta.state import Gates, frame_writes
from ..attention.rope import Rotation
from .hooks import Hooks

Linear = Callable[..., nn.Module]
"""Makes a linear layer from numbers of inputs and outputs; `bias=False` makes it without bias."""

ReadState = Callable[[int, Tensor], Tensor]
"""(layer, un-rotated queries (b, f s, n, d)) -> what the state answers, shaped alike."""

LAYERS = "delta"
STRENGTH_BIAS = 5.0  # sigmoid: .993
DECAY_BIAS = -5.0  # exp(-softplus): .993
OPEN_GATE = 1.27846  # its SiLU is 1


class DeltaLayers(nn.Module):
    """The layers of one block, of a width and a number of heads."""

    def __init__(self, dim: int, heads: int, linear: Linear) -> None:
        super().__init__()
        self.strength, self.decay = linear(dim, heads), linear(dim, heads)
        self.gate, self.out = linear(dim, dim), linear(dim, dim, bias=False)
        begin(self)


@torch.no_grad()
def begin(layers: Any) -> None:
    """Give the layers the values that they have before training."""
    nn.init.zeros_(layers.gate.weight)
    nn.init.zeros_(layers.out.weight)
    biases = (layers.strength, STRENGTH_BIAS), (layers.decay, DECAY_BIAS), (layers.gate, OPEN_GATE)
    for layer, value in biases:
        nn.init.constant_(layer.bias, value)


def add_delta_layers(tree: Any, dim: int, linear: Linear) -> None:
    """Add `self_attn.delta` to every block of a module tree."""
    for block in tree.blocks:
        setattr(block.self_attn, LAYERS, DeltaLayers(dim, tree.num_heads, linear))


def gates(tree: Any, layer: int, values: Tensor) -> Gates:
    """The gates of latent frames by the layer's values (b, f, s, n, d)."""
    layers, x = tree.blocks[layer].self_attn.delta, values.flatten(-2)
    strength = torch.sigmoid(layers.strength(x).float())
    return Gates(strength, torch.exp(-F.softplus(layers.decay(x.mean(2)).float())))


def delta_hooks(tree: Any, read_state: ReadState) -> Hooks:
    """Add what the state answers to the output of every self-attention."""

    def add(layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return _project(tree.blocks[layer].self_attn.delta, read_state(layer, q), v)

    return Hooks(in_attention=(add,))


def clip_hooks(tree: Any, absorbed: Sequence[int], places: Rotation) -> Hooks:
    """Add the states' answers to all latent frames of a clip in one pass: the form for training.

    Frame i reads the state after the first `absorbed[i]` frames of the pass. `places` turns a
    frame's tokens by row and column.
    """

    def add(layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        frames = [x.unflatten(1, (len(absorbed), -1)) for x in (q, k, v)]
        past_k, past_v = (x[:, : max(absorbed)] for x in frames[1:])
        writes = frame_writes(past_k, past_v, gates(tree, layer, past_v), places)
        states = states_before(writes)[:, list(absorbed)]
        answers = read(states, memory_queries(frames[0], places))
        answers = answers.transpose(2, 3).flatten(1, 2).to(q.dtype)
        return _project(tree.blocks[layer].self_attn.delta, answers, v)

    return Hooks(in_attention=(add,) if max(absorbed) else ())


def _project(layers: Any, answers: Tensor, v: Tensor) -> Tensor:
    """The addition (b, s, c) of answers (b, s, n, d) to tokens with values v."""
    gate = F.silu(layers.gate(v.flatten(-2)))
    addition: Tensor = layers.out(gate * answers.flatten(-2))
    return addition
