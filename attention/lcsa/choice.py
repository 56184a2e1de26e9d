"""The blocks of keys that each block of queries reads: near ones of the largest shares.

For each head and each group of queries, all pairs of blocks compete for `pairs` places. The share
of a pair is the softmax over near blocks of mean query times mean key. Source:
OpenImagingLab/FlashVSR ccac0ac `diffsynth/models/wan_video_dit.py`, `generate_draft_block_mask`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class BlockPairs:
    """Who reads what: `table` (n, query blocks, key blocks) bool, and the `most` pairs of a head.

    The table lies on the device, where its numbers stay. `most` is known without them, so that
    sizes can follow from it.
    """

    table: Tensor
    most: int


def choose_pairs(q: Tensor, k: Tensor, near: Tensor, pairs: int) -> BlockPairs:
    """Which key blocks every query block reads.

    q (n, query blocks, 128, d) and k (n, key blocks, 128, d) are rotated and hold whole groups;
    `near` (blocks, blocks) is of one group, `pairs` for each head and group of queries. A share
    equal to the first that has no place has none either, so a group never reads all pairs. A block
    of queries may read nothing.
    """
    group = len(near)
    shares = _shares(q, k, near).unflatten(1, (-1, group)).flatten(2)  # (n, groups, pairs)
    places = min(shares.shape[2] - 1, pairs)
    bound = shares.topk(places + 1, dim=2).values[..., -1:]
    table = (shares > bound).unflatten(2, (group, -1)).flatten(1, 2)
    return BlockPairs(table, shares.shape[1] * places)


def _shares(q: Tensor, k: Tensor, near: Tensor) -> Tensor:
    """The estimated share of each key block (n, query blocks, key blocks), 0 where not near."""
    means_q, means_k = (x.mean(2, dtype=torch.float32) for x in (q, k))
    scores = means_q @ means_k.transpose(1, 2) / math.sqrt(q.shape[-1])
    groups = q.shape[1] // len(near), k.shape[1] // len(near)
    return scores.masked_fill(~near.repeat(*groups), -torch.inf).softmax(-1)
