"""Chosen pairs of blocks by gathering pages of keys: equal to dense attention with a mask."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from longtake.attention.kernels import fused
from longtake.attention.lcsa import gathered
from longtake.attention.lcsa.choice import BlockPairs
from longtake.attention.lcsa.pages import page_room, to_pages
from longtake.model.memory import META, peak_bytes
from longtake.tests.support.attention.block_pairs import blocks, check_pairs, random_pairs


@pytest.mark.parametrize("page_blocks", [1, 4, 7, 100])
@pytest.mark.parametrize("at_once_bytes", [1, 2**18, 2**28])
@pytest.mark.parametrize("density", [0.0, 0.2, 0.6, 1.0])
def test_gathered_attention_equals_dense_attention_with_a_mask(
    density: float, at_once_bytes: int, page_blocks: int
) -> None:
    q, k, v = blocks(6, 3), blocks(18, 4), blocks(18, 5)
    pairs = random_pairs(6, 18, density)
    check_pairs(gathered.attend_pairs(q, k, v, pairs, page_blocks, at_once_bytes), q, k, v, pairs)


@pytest.mark.parametrize("spare", [0, 3, 10**6])
def test_more_room_than_pairs_changes_nothing(spare: int) -> None:
    q, k, v = blocks(6, 3), blocks(18, 4), blocks(18, 5)
    pairs, roomy = random_pairs(6, 18, 0.4), random_pairs(6, 18, 0.4, spare)
    assert torch.equal(
        gathered.attend_pairs(q, k, v, roomy, 4), gathered.attend_pairs(q, k, v, pairs, 4)
    )


def test_gathering_without_a_fused_kernel_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a device whose kernels give no log-sum-exps."""

    def plain(q: Tensor, k: Tensor, v: Tensor, is_read: Tensor) -> Any:
        bias = torch.zeros(is_read.shape).masked_fill(~is_read, -torch.inf)
        return fused.attend_part(q, k, v, bias[:, None])

    monkeypatch.setattr(gathered, "fused_part", plain)
    q, k, v = blocks(6, 3), blocks(18, 4), blocks(18, 5)
    pairs = random_pairs(6, 18, 0.4)
    check_pairs(gathered.attend_pairs(q, k, v, pairs, 4), q, k, v, pairs)


@pytest.mark.parametrize("width", [1, 3, 16])
@pytest.mark.parametrize("density", [0.0, 0.1, 0.5, 1.0])
def test_all_pages_have_room_however_pairs_are_spread(density: float, width: int) -> None:
    for seed in range(20):
        generator = torch.Generator().manual_seed(seed)
        share = density * torch.rand(2, 9, 1, generator=generator) ** 3
        table = torch.rand(2, 9, 31, generator=generator) < share
        pairs = BlockPairs(table, int(table.sum((1, 2)).max()))
        pages = to_pages(pairs, width)
        assert pages.query.shape[1] == page_room(pairs, width) >= int(pages.count.sum(1).max())
        assert int(pages.count.max()) <= pages.most
        read = torch.zeros_like(table)
        for head, first, count in zip(range(2), pages.first, pages.count, strict=True):
            for query, (at, number) in enumerate(zip(first.tolist(), count.tolist(), strict=True)):
                for page in range(at, at + number):
                    assert pages.query[head, page] == query
                    chosen = pages.keys[head, page][pages.is_read[head, page]]
                    assert not read[head, query, chosen].any()
                    read[head, query, chosen] = True
        assert torch.equal(read, table)


def test_gathering_takes_its_limit_however_many_pairs_there_are() -> None:
    """At 1408x768 in bfloat16: q, k, v and the result do not count; one head's parts do."""
    blocks_of_group, dim = 66, 128
    q = torch.empty(12, blocks_of_group, 128, dim, dtype=torch.bfloat16, device=META)
    k = torch.empty(12, 4 * blocks_of_group, 128, dim, dtype=torch.bfloat16, device=META)
    table = torch.empty(12, blocks_of_group, 4 * blocks_of_group, dtype=torch.bool, device=META)
    for most in (7919, table[0].numel()):
        pairs = BlockPairs(table, most)
        parts = page_room(pairs, gathered.PAGE_BLOCKS) * 128 * (2 * dim + 4)
        taken = peak_bytes(lambda pairs=pairs: gathered.attend_pairs(q, k, k, pairs)) - q.nbytes
        assert gathered.GATHERED_BYTES < taken - parts < 1.1 * gathered.GATHERED_BYTES
