"""Which keys each block of queries reads, as block numbers instead of single keys.

A list of single keys would be as long as the history for every block of queries. A list of key
blocks is shorter by the number of keys in a block.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class KeySelection:
    """The keys that p heads read; head i is `heads`[i] of batch row `rows`[i], both (p,) int64.

    `tokens` (b, n, key blocks, w) are the key numbers of each block, -1 for none; a key is in at
    most one block. Each block of queries reads the blocks `chosen` (b, n, query blocks, count)
    int32, and the keys `always` (m,), which are in no block.
    """

    tokens: Tensor
    chosen: Tensor
    always: Tensor
    rows: Tensor
    heads: Tensor

    @property
    def query_blocks(self) -> int:
        """How many blocks of queries select keys."""
        return self.chosen.shape[2]

    @property
    def keys(self) -> int:
        """Keys that each block of queries reads, padding included."""
        return self.chosen.shape[3] * self.block_keys + self.always.shape[0]

    @property
    def block_keys(self) -> int:
        """Keys of a block, padding included."""
        return self.tokens.shape[3]

    def key_numbers(self, blocks: Tensor) -> Tensor:
        """The keys (p, k, `keys`) that the query `blocks` (k,) read, -1 for none."""
        rows, heads = self.rows.view(-1, 1), self.heads.view(-1, 1)
        chosen = self.chosen[rows, heads, blocks].long()  # (p, k, count)
        picked = self.tokens[rows.unsqueeze(2), heads.unsqueeze(2), chosen].flatten(2)
        return torch.cat([picked, self.always.expand(*picked.shape[:2], -1)], 2)


def select_for_all_heads(tokens: Tensor, chosen: Tensor, always: Tensor) -> KeySelection:
    """The selection of all heads of all batch rows."""
    b, n = tokens.shape[:2]
    pairs = torch.arange(b * n, device=tokens.device)
    return KeySelection(tokens, chosen, always, pairs // n, pairs % n)
