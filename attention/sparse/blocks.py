"""Split the keys of a history into blocks, and choose the blocks that queries should read.

Related keys lie side by side: in the order of time and place, or sorted by bucket. A block is
summarised by its mean key.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ..kernels import shares
from ..kernels.choice import SumShares

KEY_BLOCK = 32
QUERY_BLOCK = 64
TIME_ORDERS = ("auto", "time")


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


def choose_blocks(
    q: Tensor, blocks: Blocks, count: int, sum_shares: SumShares = shares.sum_shares
) -> Tensor:
    """Choose for each block of queries the `count` blocks estimated to hold most attention.

    q is (b, n, s, d), the result (b, n, query blocks, count) int32 in no order.
    """
    summed = sum_shares(q, blocks.means, blocks.log_mass, QUERY_BLOCK)
    return summed.topk(count, dim=-1, sorted=False).indices.int()
