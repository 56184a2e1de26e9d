"""Split the keys of a history into blocks, and choose the blocks that queries should read.

Related keys lie side by side: in the order of time and place, or sorted by bucket. A block is
summarised by its mean key. The share of a query's attention in the block is estimated as
softmax(q mean / sqrt d + log mass); by Jensen's inequality the logit is a lower bound.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ..pieces import collect_pieces

KEY_BLOCK = 32
QUERY_BLOCK = 64
TIME_ORDERS = ("auto", "time")
SHARES_AT_ONCE = 2**20
"""Shares of attention estimated at once in a head, at least those of one block of queries."""


@dataclass(frozen=True, slots=True)
class Blocks:
    """Blocks of keys.

    `tokens` (b, n, blocks, KEY_BLOCK) are key numbers, -1 for none; `means` (b, n, blocks, d) the
    mean rotated keys, and `log_mass` (b, n, blocks) the logs of the summed masses.
    """

    tokens: Tensor
    means: Tensor
    log_mass: Tensor


def build_blocks(
    keys: Tensor, bias: Tensor | None, tokens: Tensor, codes: Tensor | None = None
) -> Blocks:
    """Blocks of those keys (b, n, t, d) that are numbered `tokens` (m,).

    Keys are sorted by `codes` (b, n, m) if given. `bias` (b, n, t) is the log of each key's mass.
    """
    b, n, _, d = keys.shape
    order = tokens.expand(b, n, -1)
    if codes is not None:
        order = order.gather(2, codes.argsort(dim=-1, stable=True))
    order = F.pad(order, (0, -order.shape[2] % KEY_BLOCK), value=-1)
    numbers = order.clamp(min=0)
    mass = torch.ones_like(numbers, dtype=torch.float32)
    if bias is not None:
        mass = bias.gather(2, numbers).exp()
    mass = mass.masked_fill(order < 0, 0).unflatten(2, (-1, KEY_BLOCK))
    block_keys = keys.gather(2, numbers.unsqueeze(-1).expand(-1, -1, -1, d)).float()
    sums = (block_keys.unflatten(2, (-1, KEY_BLOCK)) * mass.unsqueeze(-1)).sum(3)
    total = mass.sum(3)
    means = sums / total.clamp(min=1e-9).unsqueeze(-1)
    return Blocks(order.unflatten(2, (-1, KEY_BLOCK)), means, total.log())


def choose_blocks(q: Tensor, blocks: Blocks, count: int) -> Tensor:
    """Choose for each block of queries the `count` blocks estimated to hold most attention.

    q is (b, n, s, d), the result (b, n, query blocks, count) int32.
    """
    rows = max(1, SHARES_AT_ONCE // max(1, blocks.means.shape[2]) // QUERY_BLOCK) * QUERY_BLOCK
    chosen = collect_pieces(
        lambda first: _choose(q[:, :, first : first + rows], blocks, count),
        q.shape[2], rows, q, dim=2,
    )  # fmt: skip
    return chosen[0] if len(chosen) == 1 else torch.cat(chosen, 2)


def _choose(q: Tensor, blocks: Blocks, count: int) -> Tensor:
    """Choose for few enough queries that their shares fit one table."""
    logits = q.float() @ blocks.means.transpose(2, 3) * q.shape[-1] ** -0.5
    share = (logits + blocks.log_mass.unsqueeze(2)).softmax(-1)  # (b, n, s, blocks)
    missing = -share.shape[2] % QUERY_BLOCK  # torch 2.5 cannot pad where there is no block
    share = torch.cat([share, share.new_zeros(*share.shape[:2], missing, share.shape[3])], 2)
    votes: Tensor = share.unflatten(2, (-1, QUERY_BLOCK)).sum(3)
    return votes.topk(count, dim=-1).indices.int()
