"""JSON from outside: a user's file, or a server's answer."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from ..characters import half_character


class HalfCharacter(ValueError):
    """A text of the JSON has half a character; the message tells which and what to do."""

    def __init__(self, near: str) -> None:
        super().__init__(f"has half a character (a lone surrogate), {near!r}; type that text anew")


def parse_json(text: str) -> Any:
    """Return the value of a JSON text; raise ValueError if its depth or its texts are unusable.

    A lone surrogate is valid JSON, but no file or terminal can hold it: HalfCharacter.
    """
    try:
        value = json.loads(text)
        halves = map(half_character, _texts(value)) if "\\ud" in text.lower() else ()
        near = next(filter(None, halves), None)
    except RecursionError as error:
        raise ValueError("it is nested too deep") from error
    if near is not None:
        raise HalfCharacter(near)
    return value


def _texts(value: Any) -> Iterator[str]:
    """Every text in a value, names of members too."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, list | dict):
        members = [*value, *value.values()] if isinstance(value, dict) else value
        for member in members:
            yield from _texts(member)
