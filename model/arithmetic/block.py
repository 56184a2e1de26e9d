"""One transformer block on tokens: attention to the history, attention to the prompt, feed-forward.

Equations: Wan-Video/Wan2.1 `wan/modules/model.py`, `WanAttentionBlock`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from ..cross_attention import Attend, KeysValues
from ..hooks import Hooks, through, through_keeping, through_layer
from .layers import TORCH_LAYERS, Layers
from .modulation import PLAIN_ARITHMETIC, Arithmetic


@dataclass(frozen=True, slots=True)
class BlockWays:
    """What the tokens of one layer meet: the history, the prompt, and modules' hooks.

    Without `attention` a block computes its keys and values alone.
    """

    layer: int
    attention: Attend | None
    to_text: Callable[[Tensor], Tensor]
    hooks: Hooks
    arithmetic: Arithmetic = PLAIN_ARITHMETIC
    layers: Layers = TORCH_LAYERS


def run_block(
    block: Any, x: Tensor, m: tuple[Tensor, ...], heads: int, ways: BlockWays
) -> tuple[Tensor, tuple[KeysValues, ...]]:
    """One block on tokens x (b, f, s, c); m is shift, scale, gate of attention, then of the MLP.

    Also its keys and values, then those that hooks keep.
    """
    sa, by, linear = block.self_attn, ways.arithmetic, ways.layers.linear
    y = by.modulate(block.norm1(x), m[0], m[1]).flatten(1, 2)  # (b, f s, c)
    q, k, v = _project(sa, y, heads, ways)
    if q is None or ways.attention is None:
        return x, ((k, v),)
    y = linear(sa.o, ways.attention(q, k, v).flatten(-2))
    for hook in ways.hooks.in_attention:
        y = y + hook(ways.layer, q, k, v)
    x = by.gate(x, y.view_as(x), m[2])
    x = through_layer(ways.hooks.after_attention, ways.layer, x)
    x = x + ways.to_text(block.norm3(x))
    x, beside = through_keeping(ways.hooks.after_prompt, ways.layer, x)
    y = ways.layers.mlp(block.ffn, by.modulate(block.norm2(x), m[3], m[4]))
    x = through_layer(ways.hooks.after_block, ways.layer, by.gate(x, y, m[5]))
    return x, ((k, v), *beside)


def _project(
    sa: Any, y: Tensor, heads: int, ways: BlockWays
) -> tuple[Tensor | None, Tensor, Tensor]:
    """Queries, keys and values (b, s, n, d) of tokens y (b, s, c); no queries without attention."""
    parts = (sa.k, sa.v) if ways.attention is None else (sa.q, sa.k, sa.v)
    *queries, keys, values = ways.layers.linears(parts, y)
    by_head, places = (*y.shape[:-1], heads, -1), ways.hooks.places
    k = through(places, sa.norm_k(keys).view(by_head))
    v = values.contiguous().view(by_head)  # or it would hold what lies beside it
    q = through(places, sa.norm_q(queries[0]).view(by_head)) if queries else None
    return q, k, v
