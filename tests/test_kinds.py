"""A message says in plain words what was given."""

from __future__ import annotations

from typing import Any

import pytest

from longtake.kinds import kind_of


class AutoencoderKL:
    pass


class UNetModel:
    pass


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (None, "nothing"), (True, "true or false"), (3, "a number"), (0.5, "a number"),
        ("a", "a text"), ([], "a list"), ((), "a list"), ({}, "a dictionary"),
        (AutoencoderKL(), "an AutoencoderKL"), (UNetModel(), "a UNetModel"),
    ],
)  # fmt: skip
def test_a_value_is_named_in_plain_words(value: Any, words: str) -> None:
    assert kind_of(value) == words
