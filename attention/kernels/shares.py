"""How much of the attention of each block of queries each block of keys is estimated to hold.

A block of keys stands for its mean key. The share of a query's attention in it is estimated as
softmax(q mean / sqrt d + log mass); by Jensen's inequality the logit is a lower bound. This is the
portable path, in stock operations.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..pieces import collect_pieces

SHARES_AT_ONCE = 2**20
"""Shares of attention estimated at once in a head, at least those of one block of queries."""


def sum_shares(q: Tensor, means: Tensor, log_mass: Tensor, query_block: int) -> Tensor:
    """The shares (b, n, query blocks, blocks) of each block of queries of q (b, n, s, d), summed.

    `means` (b, n, blocks, d) and `log_mass` (b, n, blocks) are float32.
    """
    rows = max(1, SHARES_AT_ONCE // max(1, means.shape[2]) // query_block) * query_block

    def sum_piece(first: int) -> Tensor:
        logits = q[:, :, first : first + rows].float() @ means.transpose(2, 3) * q.shape[-1] ** -0.5
        share = (logits + log_mass.unsqueeze(2)).softmax(-1)  # (b, n, rows, blocks)
        missing = -share.shape[2] % query_block  # torch 2.5 cannot pad where there is no block
        share = torch.cat([share, share.new_zeros(*share.shape[:2], missing, share.shape[3])], 2)
        summed: Tensor = share.unflatten(2, (-1, query_block)).sum(3)
        return summed

    summed = collect_pieces(sum_piece, q.shape[2], rows, q, dim=2)
    return summed[0] if len(summed) == 1 else torch.cat(summed, 2)
