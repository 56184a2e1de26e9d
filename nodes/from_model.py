"""The convention of number widgets that a model's preset can decide: -1 is the model's value."""

from __future__ import annotations

from typing import TypeVar

from ..errors import BadInput

Number = TypeVar("Number", int, float)

FROM_MODEL = -1
TIP = "-1: from model."


def set_or_none(
    name: str, value: Number, smallest: Number, unset: str = "for the model's own"
) -> Number | None:
    """Return a widget's number, None for -1; raise BadInput for another below `smallest`.

    `unset` says what -1 is for.
    """
    if value == FROM_MODEL:
        return None
    if value < smallest:
        raise BadInput(f"{name} is {value:g}; set at least {smallest:g}, or {FROM_MODEL} {unset}.")
    return value
