"""Captions: every word is known, held-out wordings stay out, and all synonyms can be drawn."""

from __future__ import annotations

import random

import pytest

from longtake.model.text import words_of
from longtake.training.train_dit import TEXT_LEN
from longtake.training.world.attributes import (
    ATTRIBUTES,
    SYNONYMS,
    TEMPLATES,
    caption,
    changed_values,
    is_held_out,
    random_values,
    vocabulary,
)


def drawn(count: int, *, held_out: bool | None = False) -> list[str]:
    """Return captions of random values."""
    rng = random.Random(0)
    return [caption(random_values(rng), rng, held_out=held_out) for _ in range(count)]


def test_every_attribute_value_has_synonyms_and_nothing_else_has() -> None:
    assert set(SYNONYMS) == {(name, value) for name in ATTRIBUTES for value in ATTRIBUTES[name]}


def test_every_word_of_a_caption_is_in_the_vocabulary() -> None:
    known = set(vocabulary())
    assert {word for text in drawn(600, held_out=None) for word in words_of(text)} == known
    assert vocabulary() == sorted(known)


def test_a_caption_fits_the_text_length() -> None:
    assert max(len(words_of(text)) for text in drawn(600, held_out=None)) <= TEXT_LEN


@pytest.mark.parametrize("held_out", [False, True])
def test_training_and_held_out_wordings_never_meet(held_out: bool) -> None:
    assert {is_held_out(text) for text in drawn(300, held_out=held_out)} == {held_out}


def test_one_wording_in_eight_is_held_out() -> None:
    texts = drawn(1500, held_out=None)
    share = sum(map(is_held_out, texts)) / len(texts)
    assert 0.1 < share < 0.15


def test_a_caption_names_one_synonym_of_every_value() -> None:
    rng = random.Random(1)
    values = random_values(rng)
    for _ in range(50):
        text = caption(values, rng)
        assert all(
            any(phrase in text for phrase in SYNONYMS[name, value])
            for name, value in values.items()
        )


def test_every_template_and_synonym_is_used_in_training() -> None:
    texts = " | ".join(drawn(800))
    assert all(phrase in texts for phrases in SYNONYMS.values() for phrase in phrases)
    assert len(set(TEMPLATES)) == len(TEMPLATES)


@pytest.mark.parametrize("names", [(), ("ball",), ("time", "pan"), tuple(ATTRIBUTES)])
def test_changing_values_changes_exactly_the_named_ones(names: tuple[str, ...]) -> None:
    rng = random.Random(2)
    for _ in range(20):
        before = random_values(rng)
        after = changed_values(before, rng, names)
        assert {name for name in before if before[name] != after[name]} == set(names)
