"""Embeddings that hold less than their numbers, and give them to the bit."""

from __future__ import annotations

import pytest
import torch

from longtake.samplers.conditioning.embedding import (
    MAX_DEPTH,
    Embedding,
    depth_of,
    digest_of,
    fit,
    mix,
    values_of,
    without_padding,
)
from longtake.tests.support.tiny_model import randn

FIRST, SECOND, THIRD = (randn(5, 4, seed=seed) for seed in range(3))


def test_the_numbers_are_those_of_a_plain_interpolation() -> None:
    """Also of a mixture inside another one, to the bit."""
    inner = torch.lerp(FIRST, SECOND, 0.3)
    mixed = mix(mix(FIRST, SECOND, 0.3), THIRD, 0.75)
    assert torch.equal(values_of(mixed), torch.lerp(inner, THIRD, 0.75))


def test_a_prompt_of_another_dtype_is_mixed_in_that_of_the_first() -> None:
    mixed = values_of(mix(FIRST.bfloat16(), SECOND, 0.5))
    assert torch.equal(mixed, torch.lerp(FIRST.bfloat16(), SECOND.bfloat16(), 0.5))


def test_zeros_behind_the_words_are_not_held_and_change_no_address() -> None:
    """An encoder pads a prompt of Wan's to 512 rows; zeros between words stay."""
    words = torch.cat([FIRST, torch.zeros(2, 4), SECOND])
    whole = torch.cat([words, torch.zeros(500, 4)])
    kept = without_padding(whole)
    assert torch.equal(kept, words)
    assert kept.untyped_storage().nbytes() == words.nbytes
    short = fit(kept, len(whole))
    assert torch.equal(values_of(short), whole)
    assert digest_of(short) == digest_of(whole)


@pytest.mark.parametrize("rows", [0, 3])
def test_an_embedding_of_nothing_but_zeros_keeps_a_row_if_it_has_any(rows: int) -> None:
    assert len(without_padding(torch.zeros(rows, 4))) == min(rows, 1)


def test_prompts_of_several_lengths_are_mixed_as_padded_ones() -> None:
    one, other = (fit(part, 9) for part in (FIRST, SECOND[:2]))
    expected = torch.lerp(values_of(one), values_of(other), 0.3)
    assert torch.equal(values_of(mix(one, other, 0.3)), expected)


def test_nothing_is_mixed_where_that_changes_nothing() -> None:
    assert mix(FIRST, SECOND, 0.0) is FIRST
    assert mix(FIRST, FIRST.clone(), 0.5) is FIRST


def test_a_digest_names_both_parts_their_order_and_the_share() -> None:
    same = digest_of(mix(FIRST, SECOND, 0.25))
    assert digest_of(mix(FIRST.clone(), SECOND.clone(), 0.25)) == same
    others: list[Embedding] = [
        mix(FIRST, SECOND, 0.5), mix(SECOND, FIRST, 0.25), mix(FIRST, THIRD, 0.25), FIRST,
        mix(mix(FIRST, SECOND, 0.25), THIRD, 0.25),
    ]  # fmt: skip
    digests = {digest_of(other) for other in others}
    assert len(digests) == len(others) and same not in digests


def test_blends_within_blends_stay_shallow_and_exact() -> None:
    """A performer may begin a new blend before the last one is complete, again and again."""
    mixed: Embedding = FIRST
    plain = FIRST
    for number in range(100):
        prompt = randn(5, 4, seed=number)
        mixed, plain = mix(mixed, prompt, 0.4), torch.lerp(plain, prompt, 0.4)
        assert depth_of(mixed) <= MAX_DEPTH
        assert torch.equal(values_of(mixed), plain)
