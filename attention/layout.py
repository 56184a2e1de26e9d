"""What active latent frames attend to, laid out in memory: the history, then themselves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import torch
from torch import Tensor

from .dense import Parts
from .kernels.biased import attend_biased


@dataclass(frozen=True, slots=True)
class AttentionInputs:
    """One layer: rotated queries (b, n, s, d); rotated keys and values (b, n, t, d), of which the
    first `past` are the history's; a bias (b, n, t) of each key's logits, None where all are 0.

    `parts` are runs of queries and how many of the active keys they see. `frames` is the latent
    frame of each `frame_tokens` keys of the history, -1 where they are of several.
    """

    q: Tensor
    keys: Tensor
    values: Tensor
    bias: Tensor | None
    past: int
    parts: Parts
    frames: Sequence[int]
    frame_tokens: int


class HistoryAttention(Protocol):
    """Self-attention over a history that can also be laid out for another way of attending."""

    @property
    def rows(self) -> slice:
        """The batch rows of the cache that attend."""

    def __call__(self, layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Attend un-rotated q, k, v (b, s, n, d) of the active frames."""

    def laid(self, layer: int, q: Tensor, k: Tensor, v: Tensor) -> AttentionInputs:
        """The same laid out; valid until the next layer."""


def attend_inputs(laid: AttentionInputs) -> Tensor:
    """Dense attention (b, n, s, d) over all that is laid out."""
    made = []
    for queries, own in laid.parts:
        stop = laid.past + own
        bias = None if laid.bias is None else laid.bias[:, :, :stop]
        keys, values = laid.keys[:, :, :stop], laid.values[:, :, :stop]
        made.append(attend_biased(laid.q[:, :, queries], keys, values, bias))
    return made[0] if len(made) == 1 else torch.cat(made, 2)


def select_heads(laid: AttentionInputs, row: int, heads: slice) -> AttentionInputs:
    """Neighbouring heads of one row of the batch; nothing is copied."""
    bias = None if laid.bias is None else laid.bias[row : row + 1, heads]
    q, keys, values = (x[row : row + 1, heads] for x in (laid.q, laid.keys, laid.values))
    return replace(laid, q=q, keys=keys, values=values, bias=bias)
