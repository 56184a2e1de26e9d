"""Random blocks, random pairs of them, and the check of a kernel's result."""

from __future__ import annotations

import torch
from torch import Tensor

from longtake.attention.lcsa import masked
from longtake.attention.lcsa.choice import BlockPairs
from longtake.attention.lcsa.grid import BLOCK_TOKENS
from longtake.tests.support.tiny_model import randn

HEADS, DIM = 2, 12


def blocks(count: int, seed: int, dim: int = DIM) -> Tensor:
    """(n, blocks, 128, d)"""
    return randn(HEADS, count, BLOCK_TOKENS, dim, seed=seed)


def random_pairs(queries: int, keys: int, density: float, spare: int = 0) -> BlockPairs:
    """Pairs of which a block of the second head has none, with some `spare` ones in `most`."""
    generator = torch.Generator().manual_seed(6)
    table = torch.rand(HEADS, queries, keys, generator=generator) < density
    table[1, 2] = False
    return BlockPairs(table, int(table.sum((1, 2)).max()) + spare)


def check_pairs(out: Tensor, q: Tensor, k: Tensor, v: Tensor, pairs: BlockPairs) -> None:
    """The result of `random_pairs` is that of dense attention with a mask."""
    torch.testing.assert_close(out, masked.attend_pairs(q, k, v, pairs), rtol=0, atol=2e-6)
    assert torch.equal(out[1, 2], torch.zeros_like(out[1, 2]))  # it reads nothing
