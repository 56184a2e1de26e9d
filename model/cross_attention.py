"""Attention of tokens to prompts, and to a reference picture beside them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..attention.dense import attend

KeysValues = tuple[Tensor, Tensor]
"""Un-rotated keys and values of one layer, each (b, s, n, d)."""

Attend = Callable[[Tensor, Tensor, Tensor], Tensor]
"""(q, k, v) -> out, all (b, s, n, d): the attention of one layer."""

Linear = Callable[[Any, Tensor], Tensor]
"""(layer, x) -> what the linear layer makes of x (..., c)."""

Runs = tuple[tuple[int, int], ...]
"""(number of a prompt, how many latent frames in a row it serves), from the first frame on."""

Change = Callable[[Tensor, Tensor], Tensor]
"""(q, out) -> what is to take the place of out, all (b, f, s, n, d)."""


@dataclass(frozen=True, slots=True)
class TextWays:
    """How tokens attend to their prompts, what linear layers do, and what `changes` the result."""

    linear: Linear
    to_prompt: Attend = attend
    changes: tuple[Change, ...] = ()


def attend_to_text(
    ca: Any, sources: tuple[KeysValues, ...], runs: Runs, ways: TextWays, x: Tensor
) -> Tensor:
    """Attend x (b, f, s, c) to its prompts and, separately, to the picture."""
    (words, meanings), *picture = sources
    q = ca.norm_q(ways.linear(ca.q, x)).view(*x.shape[:-1], words.shape[-2], -1)  # (b, f, s, n, d)
    if runs:
        parts = zip(q.split([count for _, count in runs], 1), runs, strict=True)
        outputs = [
            _attend_each(part, words[:, i, None], meanings[:, i, None], ways.to_prompt)
            for part, (i, _) in parts
        ]
        out = torch.cat(outputs, 1).reshape(q.shape)
    else:
        out = _attend_each(q, words, meanings, ways.to_prompt).reshape(q.shape)
    for change in ways.changes:
        out = change(q, out)
    out = out.reshape(x.shape)
    for k, v in picture:
        out = out + _attend_each(q, k, v, attend).reshape(x.shape)
    return ways.linear(ca.o, out)


def _attend_each(q: Tensor, k: Tensor, v: Tensor, by: Attend) -> Tensor:
    """q (b, f, s, n, d) to k and v (b, p, l, n, d), where p is 1 or f."""
    if k.shape[1] > 1:
        return by(q.flatten(0, 1), k.flatten(0, 1), v.flatten(0, 1))
    return by(q.flatten(1, 2), k[:, 0], v[:, 0])
