"""The keys of a history as blocks, and which blocks a block of queries should read.

Keys that belong together lie side by side: in the order of time and place, or sorted by bucket. A
block is known by its mean key: a query's share of attention in it is estimated as
softmax(q mean / sqrt d + log of its mass), which by Jensen's inequality never says too much.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

KEY_BLOCK = 32
QUERY_BLOCK = 64
TIME_ORDERS = ("auto", "time")
ESTIMATED = 2**20
"""Shares of attention that are estimated at once in a head, or those of one block of queries."""


@dataclass(frozen=True, slots=True)
class Blocks:
    """Blocks of keys: their `tokens` (b, n, blocks, KEY_BLOCK), -1 for none; mean rotated key
    (b, n, blocks, d), and log of the mass (b, n, blocks).
    """

    tokens: Tensor
    means: Tensor
    log_mass: Tensor


def blocks_of(
    keys: Tensor, bias: Tensor | None, tokens: Tensor, codes: Tensor | None = None
) -> Blocks:
    """Blocks of the keys (b, n, t, d) numbered `tokens` (m,), sorted by `codes` (b, n, m) if given.

    `bias` (b, n, t) is the log of each key's mass.
    """
    b, n, _, d = keys.shape
    order = tokens.expand(b, n, -1)
    if codes is not None:
        order = order.gather(2, codes.argsort(dim=-1, stable=True))
    order = F.pad(order, (0, -order.shape[2] % KEY_BLOCK), value=-1)
    there = order.clamp(min=0)
    mass = torch.ones_like(there, dtype=torch.float32)
    if bias is not None:
        mass = bias.gather(2, there).exp()
    mass = mass.masked_fill(order < 0, 0).unflatten(2, (-1, KEY_BLOCK))
    of_blocks = keys.gather(2, there.unsqueeze(-1).expand(-1, -1, -1, d)).float()
    sums = (of_blocks.unflatten(2, (-1, KEY_BLOCK)) * mass.unsqueeze(-1)).sum(3)
    total = mass.sum(3)
    means = sums / total.clamp(min=1e-9).unsqueeze(-1)
    return Blocks(order.unflatten(2, (-1, KEY_BLOCK)), means, total.log())


def choose(q: Tensor, blocks: Blocks, count: int, query_block: int = QUERY_BLOCK) -> Tensor:
    """For each block of queries of q (b, n, s, d), the `count` blocks (b, n, query blocks, count)
    int32 that are estimated to hold most of their attention.
    """
    rows = max(1, ESTIMATED // max(1, blocks.means.shape[2]) // query_block) * query_block
    made = [_choose(some, blocks, count, query_block) for some in q.split(rows, 2)]
    return made[0] if len(made) == 1 else torch.cat(made, 2)


def _choose(q: Tensor, blocks: Blocks, count: int, query_block: int) -> Tensor:
    """`choose` for so few queries that what they may read is a table."""
    logits = q.float() @ blocks.means.transpose(2, 3) * q.shape[-1] ** -0.5
    share = (logits + blocks.log_mass.unsqueeze(2)).softmax(-1)  # (b, n, s, blocks)
    share = F.pad(share, (0, 0, 0, -share.shape[2] % query_block))
    votes: Tensor = share.unflatten(2, (-1, query_block)).sum(3)
    return votes.topk(count, dim=-1).indices.int()
