"""Locality-constrained sparse attention: the choice of pairs of blocks, and attention to them."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from longtake.attention.dense import attend
from longtake.attention.lcsa import gathered
from longtake.attention.lcsa.choice import BlockPairs, choose_pairs
from longtake.attention.lcsa.grid import BLOCK_TOKENS, BlockGrid
from longtake.attention.lcsa.window import GroupPass, LocalRule
from longtake.attention.rope import rotate, rotation
from longtake.tests.support.attention.block_pairs import DIM, HEADS, blocks
from longtake.tests.support.tiny_model import randn

GRID = BlockGrid(16, 24)  # 2 x 3 blocks in a group


def pass_of(rule: LocalRule, **more: object) -> GroupPass:
    past = more.pop("past", ())
    frames = more.pop("frames", range(2))
    attend = more.pop("attend", gathered.attend_pairs)
    turns = rotation(frames, GRID.rows, GRID.columns, DIM)  # type: ignore[arg-type]
    return GroupPass(GRID, rule, past, turns, attend)  # type: ignore[arg-type]


def test_blocks_are_of_two_frames_and_eight_by_eight_tokens() -> None:
    frames, rows, columns = (
        x.flatten() for x in torch.meshgrid(*map(torch.arange, (4, 16, 24)), indexing="ij")
    )
    places = torch.stack([frames, rows, columns], -1)[None, :, None].float()  # (1, s, 1, 3)
    inside = GRID.to_blocks(places)
    assert inside.shape == (1, 12, BLOCK_TOKENS, 3)
    spans = inside.amax(2) - inside.amin(2)
    assert torch.equal(spans, torch.tensor([1.0, 7.0, 7.0]).expand(1, 12, 3))
    corners = inside.amin(2)[0] / torch.tensor([2, 8, 8])
    expected = [(f, r, c) for f in range(2) for r in range(2) for c in range(3)]
    assert corners.tolist() == [[*map(float, corner)] for corner in expected]
    assert torch.equal(GRID.from_blocks(inside), places)


@pytest.mark.parametrize("reach", [1, 2, 3, 4, 9])
def test_near_blocks_are_those_in_a_square_cut_at_the_edge(reach: int) -> None:
    grid = BlockGrid(40, 48)
    places = [(r, c) for r in range(5) for c in range(6)]
    back, ahead = reach // 2, reach - 1 - reach // 2

    def is_near(a: tuple[int, int], b: tuple[int, int]) -> bool:
        return all(x - back <= y <= x + ahead for x, y in zip(a, b, strict=True))

    expected = [[is_near(query, key) for key in places] for query in places]
    assert grid.near(reach).tolist() == expected


@pytest.mark.parametrize(("reach", "pairs"), [(3, 30), (3, 71), (9, 1), (9, 500)])
def test_pairs_are_the_largest_shares_of_each_head_and_group(reach: int, pairs: int) -> None:
    """A loop over heads, groups and pairs, in float64."""
    q, k, near = blocks(12, 1), blocks(24, 2), GRID.near(reach)
    chosen = choose_pairs(q, k, near, pairs)
    reads = chosen.table
    assert int(reads.sum((1, 2)).max()) <= chosen.most
    for head in range(HEADS):
        for group in range(2):
            shares = {}
            for row in range(6):
                mean = q[head, 6 * group + row].double().mean(0)
                seen = [j for j in range(24) if near[row, j % 6]]
                logits = [float(mean @ k[head, j].double().mean(0)) / math.sqrt(DIM) for j in seen]
                total = sum(map(math.exp, logits))
                weights = [math.exp(x) / total for x in logits]
                shares.update({(row, j): 0.0 for j in range(24)})
                shares.update(zip([(row, j) for j in seen], weights, strict=True))
            ranked = sorted(shares.values(), reverse=True)
            bound = ranked[min(len(ranked) - 1, pairs)]
            expected = {pair for pair, share in shares.items() if share > bound}
            part = reads[head, 6 * group : 6 * group + 6]
            assert {(i, j) for i, j in part.nonzero().tolist()} == expected  # noqa: C416


def test_reading_every_pair_is_dense_attention() -> None:
    tokens = 2 * GRID.rows * GRID.columns
    q, k, v = (randn(1, tokens, HEADS, DIM, seed=seed) for seed in (7, 8, 9))

    def everything(q: Tensor, k: Tensor, v: Tensor, pairs: BlockPairs) -> Tensor:
        table = torch.ones_like(pairs.table)
        return gathered.attend_pairs(q, k, v, BlockPairs(table, table[0].numel()))

    out = pass_of(LocalRule(3, 9, 10**6), attend=everything)(0, q, k, v)
    turns = rotation(range(2), GRID.rows, GRID.columns, DIM)
    expected = attend(rotate(q, turns), rotate(k, turns), v)
    torch.testing.assert_close(out, expected, rtol=0, atol=2e-6)


def test_a_pass_hands_on_the_newest_groups_and_nothing_of_the_others() -> None:
    rule, past, sizes = LocalRule(3, 3, 40), (), []
    for number in range(5):
        tokens = 2 * GRID.rows * GRID.columns
        q, k, v = (randn(1, tokens, HEADS, DIM, seed=10 * number + i) for i in range(3))
        frames = range(2 * number, 2 * number + 2)
        attention = pass_of(rule, past=past, frames=frames)
        attention(0, q, k, v)
        past = attention.groups
        sizes.append(len(past[0]))
        assert torch.equal(past[0][-1][1], GRID.to_blocks(v))
        for keys, values in past[0]:
            assert keys.shape == values.shape == (HEADS, GRID.group_blocks, BLOCK_TOKENS, DIM)
            assert keys.untyped_storage().nbytes() == keys.nbytes
            assert values.untyped_storage().nbytes() == values.nbytes
    assert sizes == [1, 2, 3, 3, 3]


def test_the_place_in_a_long_video_does_not_matter() -> None:
    """Angles of a million latent frames are as exact as those of the first ones."""
    tokens = 4 * GRID.rows * GRID.columns
    q, k, v = (randn(1, tokens, HEADS, DIM, seed=seed) for seed in (1, 2, 3))
    rule = LocalRule(3, 3, 50)
    near, far = (pass_of(rule, frames=range(first, first + 4))(0, q, k, v) for first in (0, 10**6))
    torch.testing.assert_close(far, near, rtol=0, atol=1e-5)


def test_a_grid_of_partial_blocks_is_refused() -> None:
    with pytest.raises(ValueError, match="multiples of 8; got 16 and 20"):
        BlockGrid(16, 20)
