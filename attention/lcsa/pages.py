"""Chosen blocks of keys in pages: tables whose sizes are known without a number from the device.

A block of queries reads as many pages as its blocks of keys fill, the last one in part. How many
pages there are in all depends on numbers that the processor does not see. So there is room for as
many as there can be, and the rest is read by nobody.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .choice import BlockPairs


@dataclass(frozen=True, slots=True)
class Pages:
    """Pages of each head, those of a block of queries in a row.

    `query` (n, pages) is the block of queries that reads a page, `keys` (n, pages, width) are its
    blocks of keys, of which it reads those in `is_read`. `first` and `count` (n, query blocks) are
    the pages of each block of queries, at most `most`. Pages that nobody counts are whole.
    """

    query: Tensor
    keys: Tensor
    is_read: Tensor
    first: Tensor
    count: Tensor
    most: int


def page_room(pairs: BlockPairs, width: int) -> int:
    """How many pages a head can need, at least 1: all but one of a block's pages are full."""
    _, queries, keys = pairs.table.shape
    by_pairs = (pairs.most + queries * (width - 1)) // width
    return max(1, min(by_pairs, queries * -(-keys // width)))


def to_pages(pairs: BlockPairs, width: int) -> Pages:
    """Lay the pairs out in pages of `width` blocks of keys."""
    table = pairs.table
    keys, device = table.shape[2], table.device
    counts = table.sum(-1)  # (n, query blocks)
    pages = (counts + (width - 1)).div(width, rounding_mode="floor")
    ends = pages.cumsum(-1)
    slots = torch.arange(page_room(pairs, width), device=device)
    query = (slots[:, None] >= ends[:, None]).sum(-1).clamp(max=table.shape[1] - 1)
    number = slots - (ends - pages).gather(1, query)  # of a page among those of its queries
    places = number[..., None] * width + torch.arange(width, device=device)
    is_read = places < counts.gather(1, query)[..., None]
    order = table.int().argsort(dim=-1, descending=True, stable=True)
    at = query[..., None] * keys + places.clamp(max=keys - 1)
    chosen = order.flatten(1).gather(1, at.flatten(1)).view(at.shape)
    is_read = is_read | ~is_read.any(-1, keepdim=True)  # kernels disagree if all keys are hidden
    return Pages(query, chosen, is_read, ends - pages, pages, -(-keys // width))
