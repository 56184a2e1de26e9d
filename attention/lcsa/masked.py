"""Attention between chosen pairs of blocks as dense attention with a mask: the reference."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .choice import BlockPairs


def attend_pairs(q: Tensor, k: Tensor, v: Tensor, pairs: BlockPairs) -> Tensor:
    """Attend q (n, query blocks, 128, d) to those blocks of k, v (n, key blocks, 128, d).

    The result is like q, and 0 for a block that reads nothing.
    """
    n, _, tokens, d = q.shape
    logits = q.flatten(1, 2).float() @ k.flatten(1, 2).float().transpose(1, 2) / math.sqrt(d)
    visible = pairs.table.repeat_interleave(tokens, 1).repeat_interleave(tokens, 2)
    weights = logits.masked_fill(~visible, -torch.inf).softmax(-1).nan_to_num()
    out = weights @ v.flatten(1, 2).float()
    return out.view(n, -1, tokens, d).to(q.dtype)
