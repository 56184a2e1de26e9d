"""Which keys blocks of queries read: by the numbers of blocks of keys, not key by key.

A list of all keys that each block of queries reads would be as long as the history for every block
of queries; the numbers of the chosen blocks are so many times fewer as a block has keys.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Read:
    """What p heads read: head `heads`[i] of batch row `rows`[i].

    `tokens` (b, n, key blocks, w) are the key numbers of blocks, -1 for none; a key is in one block
    at most. Each block of queries reads the blocks `chosen` (b, n, query blocks, count) int32, and
    the keys `always` (m,), which are in none. `rows` and `heads` (p,) are int64.
    """

    tokens: Tensor
    chosen: Tensor
    always: Tensor
    rows: Tensor
    heads: Tensor

    @property
    def query_blocks(self) -> int:
        """Blocks of queries."""
        return self.chosen.shape[2]

    @property
    def keys(self) -> int:
        """How many keys each block of queries reads, those that are none included."""
        return self.chosen.shape[3] * self.in_block + self.always.shape[0]

    @property
    def in_block(self) -> int:
        """Keys of a block."""
        return self.tokens.shape[3]

    def of(self, blocks: Tensor) -> Tensor:
        """The key numbers (p, k, `keys`) that some `blocks` (k,) of queries read, -1 for none."""
        rows, heads = self.rows.view(-1, 1), self.heads.view(-1, 1)
        chosen = self.chosen[rows, heads, blocks].long()  # (p, k, count)
        picked = self.tokens[rows.unsqueeze(2), heads.unsqueeze(2), chosen].flatten(2)
        return torch.cat([picked, self.always.expand(*picked.shape[:2], -1)], 2)


def read_by_all(tokens: Tensor, chosen: Tensor, always: Tensor) -> Read:
    """What all heads of all rows read."""
    b, n = tokens.shape[:2]
    pairs = torch.arange(b * n, device=tokens.device)
    return Read(tokens, chosen, always, pairs // n, pairs % n)
