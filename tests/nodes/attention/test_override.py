"""The override, called as the host calls it: (dense, q, k, v, heads, transformer_options=...)."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from longtake.attention.sparse.blocks import KEY_BLOCK
from longtake.attention.sparse.prompt_attention import SparsePrompt
from longtake.attention.sparse.settings import SparseCross, SparseSelf, Sparsity
from longtake.nodes.attention.override import AttentionOverride
from longtake.tests.support.attention.override_calls import HEADS, WIDTH, dense, options, qkv
from longtake.tests.support.tiny_model import randn

EVERY = Sparsity(SparseSelf(1.0, 0.3, (0,), 0.0, min_keys=0), SparseCross(from_tokens=0))
FEW = Sparsity(SparseSelf(0.2, 0.3, (0,), 0.0, min_keys=0))


def test_reading_every_block_is_the_hosts_attention() -> None:
    found = AttentionOverride(EVERY)(dense, *qkv(200, 200), HEADS, transformer_options=options(0.5))
    torch.testing.assert_close(found, dense(*qkv(200, 200), HEADS), rtol=1e-4, atol=1e-5)


def test_early_steps_dense_layers_and_masks_are_left_to_what_was_there_before() -> None:
    calls = []

    def before(func: Any, *given: Any, **named: Any) -> Tensor:
        calls.append(named["transformer_options"]["block_index"])
        return func(*given, **named)

    override = AttentionOverride(FEW, before)
    expected = dense(*qkv(200, 200), HEADS)
    for sigma, layer in ((1.0, 3), (0.5, 0)):
        found = override(dense, *qkv(200, 200), HEADS, transformer_options=options(sigma, layer))
        assert torch.equal(found, expected)
    mask = torch.ones(200, 200, dtype=torch.bool)
    override(dense, *qkv(200, 200), HEADS, mask=mask, transformer_options=options(0.5))
    override(dense, *qkv(200, 30), HEADS, transformer_options=options(0.5))  # no AnnCA asked for
    assert calls == [3, 0, 3, 3]
    found = override(dense, *qkv(200, 200), HEADS, transformer_options=options(0.5))
    assert len(calls) == 4 and not torch.allclose(found, expected, atol=1e-3)
    assert override.stats.density == pytest.approx((200 + 200 + 32) / 600, abs=0.01)


def test_padding_of_the_hosts_prompts_is_merged_exactly() -> None:
    q, k, v = qkv(50, 40)
    k[:, 9:], v[:, 9:] = k[:, -1:], v[:, -1:]
    found = AttentionOverride(EVERY)(dense, q, k, v, HEADS, transformer_options=options(1.0))
    torch.testing.assert_close(found, dense(q, k, v, HEADS))


def test_poor_heads_are_dense_for_a_run_and_judged_again_in_the_next() -> None:
    strict = Sparsity(SparseSelf(0.2, 0.0, (), 1.0, min_keys=0))
    override, expected = AttentionOverride(strict), dense(*qkv(200, 200), HEADS)
    for level, fallbacks in ((0.9, 2), (0.5, 2), (0.9, 4)):
        found = override(dense, *qkv(200, 200), HEADS, transformer_options=options(level))
        assert torch.equal(found, expected)
        assert override.stats.dense_fallbacks == fallbacks


def test_a_head_is_dense_from_the_step_on_in_which_its_blocks_hold_too_little() -> None:
    override = AttentionOverride(Sparsity(SparseSelf(0.2, 0.0, (), 0.6, min_keys=0)))
    q, k, v = qkv(200, 200)
    loud = 4 * q[:, :1].sign()  # towards the keys of one block
    k = torch.cat([k[:, :KEY_BLOCK] + loud, k[:, KEY_BLOCK:]], 1)
    sharp, broad = loud.expand_as(q), 0.01 * q
    for level, queries, fallbacks in ((0.9, sharp, 0), (0.5, broad, 2), (0.3, sharp, 2)):
        attended = override(dense, queries, k, v, HEADS, transformer_options=options(level))
        assert override.stats.dense_fallbacks == fallbacks
        assert not fallbacks or torch.equal(attended, dense(queries, k, v, HEADS))


@pytest.mark.parametrize("named", ["cond_or_uncond", "uuids"])
def test_prompts_in_one_batch_are_prompts_one_after_another(named: str) -> None:
    """The host batches them as memory allows, and in any order."""
    both = [randn(2, 200, WIDTH, seed=i) for i in range(3)]
    probe = AttentionOverride(FEW)
    probe(dense, *both, HEADS, transformer_options=options(0.5))
    chosen = Sparsity(SparseSelf(0.2, 0.3, (0,), probe.stats.recall or 0.0, min_keys=0))

    def made(override: AttentionOverride, rows: list[int], level: float) -> Tensor:
        given = [x[rows] for x in both]
        said = {named: [10 + row for row in rows]}
        return torch.stack([
            override(dense, *given, HEADS, transformer_options={**options(level, layer), **said})
            for layer in (3, 4)
        ])  # fmt: skip

    together, each = AttentionOverride(chosen), AttentionOverride(chosen)
    for level, rows in ((0.5, [0, 1]), (0.4, [1, 0])):
        found = made(together, rows, level)
        expected = torch.cat([made(each, [row], level) for row in rows], 1)
        torch.testing.assert_close(found, expected)
    assert 0 < together.stats.dense_fallbacks == each.stats.dense_fallbacks < 8
    assert together.stats.recall == pytest.approx(each.stats.recall)
    assert together.stats.density == pytest.approx(each.stats.density)


def test_a_prompt_as_long_as_the_picture_is_told_by_the_order_of_a_blocks_attentions() -> None:
    """Wan's prompts are padded to 512 tokens, and so many has a small picture."""
    override, both = AttentionOverride(FEW), qkv(200, 200)
    expected = dense(*both, HEADS)
    for level in (0.8, 0.5):
        for layer in (3, 4):
            of_itself = override(dense, *both, HEADS, transformer_options=options(level, layer))
            assert not torch.allclose(of_itself, expected, atol=1e-3)
            to_prompt = override(dense, *both, HEADS, transformer_options=options(level, layer))
            assert torch.equal(to_prompt, expected)
    assert override.stats.density == pytest.approx(32 / 200, abs=0.01)  # the prompt's do not count


def test_blocks_beside_the_main_ones_have_fallbacks_of_their_own() -> None:
    """VACE's have the numbers of those they stand beside."""
    override = AttentionOverride(Sparsity(SparseSelf(0.2, 0.0, (), 1.0, min_keys=0)))
    for count in (2, 2, 4):
        override(dense, *qkv(200, 200), HEADS, transformer_options=options(0.5))
        assert override.stats.dense_fallbacks == count


def test_of_two_in_a_row_the_second_is_in_force_over_what_was_there_before() -> None:
    calls = []

    def before(func: Any, *given: Any, **named: Any) -> Tensor:
        calls.append(1)
        return func(*given, **named)

    first = AttentionOverride(FEW, before)
    off = AttentionOverride(Sparsity(), first)
    found = off(dense, *qkv(200, 200), HEADS, transformer_options=options(0.5))
    assert torch.equal(found, dense(*qkv(200, 200), HEADS)) and calls == [1]
    assert first.stats.density is None


def test_a_step_is_told_of_when_it_is_over_and_a_run_begins_with_nothing() -> None:
    override, over = AttentionOverride(FEW), []
    override.on_step = lambda: over.append(override.stats.density)
    for level in (1.0, 1.0, 0.8, 0.5):  # the first step in two passes, of prompt and negative
        override(dense, *qkv(200, 200), HEADS, transformer_options=options(level, layer=3))
        override(dense, *qkv(200, 200), HEADS, transformer_options=options(level, layer=4))
    assert over[0] == 1 > over[1] and len(over) == 2
    assert override.called and override.stats.recall is not None
    override.begin()
    assert not override.called and override.stats.density is override.stats.recall is None


@pytest.mark.parametrize("given", [{"scale": 0.5}, {"enable_gqa": True}])
@pytest.mark.parametrize("keys", [200, 30])
def test_a_scale_of_its_own_and_shared_heads_are_left_to_the_host(
    given: dict[str, Any], keys: int
) -> None:
    def host(q: Tensor, k: Tensor, v: Tensor, heads: int, **named: Any) -> Tensor:
        assert given.items() <= named.items()
        return torch.zeros_like(q)

    merged = Sparsity(SparseSelf(0.2, 0, (), 0.0, min_keys=0), SparseCross(from_tokens=0))
    override = AttentionOverride(merged)
    found = override(host, *qkv(200, keys), HEADS, transformer_options=options(0.5), **given)
    assert not found.any()


@pytest.mark.parametrize(
    ("chosen", "level", "layer", "because"),
    [
        (SparseSelf(), 0.5, 3, "no committed result shows it to be faster on cpu at these"),
        (SparseSelf(min_keys=300), 0.5, 3, "200 tokens are fewer than the 300"),
        (SparseSelf(min_keys=0), 1.0, 3, "the first 30% of the steps are dense"),
        (SparseSelf(min_keys=0), 0.5, 0, "layer 0 is dense"),
    ],
)
def test_it_knows_why_self_attention_was_dense(
    chosen: SparseSelf, level: float, layer: int, because: str
) -> None:
    override = AttentionOverride(Sparsity(chosen))
    override(dense, *qkv(200, 200), HEADS, transformer_options=options(level, layer))
    assert override.dense_reason.startswith(because)


PRUNED = SparseCross(prune=True, min_tokens=2, from_tokens=0)


def test_a_prompt_is_pruned_for_each_latent_frame_alone() -> None:
    override = AttentionOverride(Sparsity(prompt_sparsity=PRUNED))
    (q, k, v), said = qkv(60, 30), {**options(0.5), "grid_sizes": (3, 4, 5)}
    found = override(dense, q, k, v, HEADS, transformer_options=said)
    each = [x.unflatten(-1, (HEADS, -1)) for x in (q, k, v)]
    expected = [SparsePrompt(PRUNED)(0, q, *each[1:]) for q in each[0].split(20, 1)]
    torch.testing.assert_close(found, torch.cat(expected, 1).flatten(2))
    assert not torch.allclose(found, dense(q, k, v, HEADS), atol=1e-3)
    assert 0.1 < override.prompt_attention.pruned_share < 1
    whole = AttentionOverride(Sparsity(prompt_sparsity=PRUNED))
    whole(dense, q, k, v, HEADS, transformer_options={**said, "grid_sizes": (3, 4, 6)})
    # more queries are near more words
    assert 0 < whole.prompt_attention.pruned_share < override.prompt_attention.pruned_share


def test_pruning_never_keeps_fewer_than_the_floor() -> None:
    everything = AttentionOverride(
        Sparsity(prompt_sparsity=SparseCross(True, min_tokens=30, from_tokens=0))
    )
    found = everything(dense, *qkv(60, 30), HEADS, transformer_options=options(0.5))
    torch.testing.assert_close(found, dense(*qkv(60, 30), HEADS))
    assert everything.prompt_attention.pruned_share == 0


def test_a_picture_beside_the_prompt_keeps_all_its_tokens_and_is_no_prompt() -> None:
    """Image-to-video models attend to CLIP's picture between the two."""
    override = AttentionOverride(Sparsity(prompt_sparsity=PRUNED))
    calls, (q, k, v) = [], qkv(60, 60)

    def before(func: Any, *given: Any, **named: Any) -> Tensor:
        calls.append(given[1].shape[1])
        return func(*given, **named)

    override.previous = before
    override(dense, q, k, v, HEADS, transformer_options=options(0.5))
    picture = override(dense, *qkv(60, 257), HEADS, transformer_options=options(0.5))
    torch.testing.assert_close(picture, dense(*qkv(60, 257), HEADS))
    assert override.prompt_attention.share is None
    words = override(dense, q, k, v, HEADS, transformer_options=options(0.5))  # as many as tokens
    assert calls == [60] and not torch.allclose(words, dense(q, k, v, HEADS), atol=1e-3)
