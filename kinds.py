"""What a value is, in the words of a message."""

from __future__ import annotations

from typing import Any

WORDS = {
    type(None): "nothing", bool: "true or false", int: "a number", float: "a number",
    str: "a text", list: "a list", tuple: "a list", dict: "a dictionary",
}  # fmt: skip
VOWELS = "AEIO"  # names with U begin as `unit` does


def kind_of(value: Any) -> str:
    """Say what a value is, such as `a number` or `an AutoencoderKL`."""
    kind = type(value)
    article = "an" if kind.__name__[:1].upper() in VOWELS else "a"
    return WORDS.get(kind, f"{article} {kind.__name__}")
