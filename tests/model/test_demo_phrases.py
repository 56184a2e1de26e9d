"""The demo names each known word that means nothing where it stands, and no other."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import pytest

from longtake.model.demo_phrases import DESCRIPTIONS, misplaced_words
from longtake.model.text import TextEncoder, words_of
from longtake.training.world.attributes import (
    SYNONYMS,
    TEMPLATES,
    caption,
    random_values,
    vocabulary,
)

ENCODER = TextEncoder(vocabulary(), 8, 24)
NOUNS = ("ball", "hills", "dunes", "mountains", "sky", "weather", "camera", "view")


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("a green ball", [("green", "ball")]),
        ("a green bouncing ball over sand dunes", [("green", "ball")]),
        ("cloudy, a green ball", [("green", "ball")]),
        ("a green rubber ball", [("green", "ball")]),
        ("a ball, green hills", []),
        ("cloudy, red ball", []),
        ("the ball is blue and green", [("green", "ball")]),
        ("the ball is red over snowy mountains", []),
        ("the ball is green", [("green", "ball")]),
        ("a green and blue ball", [("green", "ball")]),
        ("a red ball over red hills at night", [("red", "hills")]),
        ("a white ball, clear blue sky", [("blue", "sky")]),
        ("a purple desert", [("purple", "desert")]),
        ("a golden ball over golden dunes, golden sky", [("golden", "dunes"), ("golden", "sky")]),
        ("a red ball, green hills, snowy mountains", []),
        ("green hills with a ball", []),
        ("the camera is static", []),
        ("a red ball at night", []),
        ("", []),
    ],
)
def test_a_word_that_describes_another_thing_is_named_with_what_it_stands_before(
    prompt: str, expected: list[tuple[str, str]]
) -> None:
    assert ENCODER.encode(prompt).misplaced == tuple(expected)


class CountedWords(list[str]):
    """Words that count how many of them were read."""

    read = 0

    def __getitem__(self, place: Any) -> Any:
        found = super().__getitem__(place)
        self.read += len(found) if isinstance(place, slice) else 1
        return found

    def __iter__(self) -> Iterator[str]:
        self.read += len(self)
        return super().__iter__()


@pytest.mark.parametrize("phrase", ["a red ball ", "a red ", "ball is ", "a ball is red "])
def test_the_work_on_a_long_prompt_grows_with_its_length_alone(phrase: str) -> None:
    """A pasted file of a million characters must not hold up the queue for minutes."""
    words = CountedWords(phrase.split() * 1000)
    misplaced_words([words])
    assert words.read <= 10 * len(words)


def test_no_caption_of_the_training_world_has_a_misplaced_word() -> None:
    rng = random.Random(0)
    for _ in range(2000):
        text = caption(random_values(rng), rng, held_out=None)
        assert ENCODER.encode(text).misplaced == (), text


def test_the_table_is_what_the_training_world_says_of_each_thing() -> None:
    """Each description comes from a caption, so that a new world cannot outgrow the table."""
    colours = {word for (name, _), words in SYNONYMS.items() if name == "ball" for word in words}
    assert {*DESCRIPTIONS["ball"]} == {*colours, "bouncing"}
    phrases = [words_of(p) for (name, _), ps in SYNONYMS.items() if name != "ball" for p in ps]
    pairs = {(a, b) for phrase in phrases for a, b in zip(phrase, phrase[1:], strict=False)}
    for noun in NOUNS[1:]:
        expected = {a for a, b in pairs if b == noun} - {"the"}
        assert {*DESCRIPTIONS[noun]} == expected, noun
    bare = {phrase[-1] for phrase in phrases if len(phrase) == 1 or phrase[0] == "a"}
    assert {noun for noun, words in DESCRIPTIONS.items() if not words} == bare
    assert any("bouncing {ball} ball" in template for template in TEMPLATES)
