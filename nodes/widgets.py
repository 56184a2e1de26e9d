"""What hosts do not check of a widget's value.

They compare what is typed with a widget's choices and limits, and not what another node gives.
They look at no character of a text.
"""

from __future__ import annotations

from numbers import Real
from typing import Any

from comfy_api.latest import io

from ..characters import excerpt, half_character
from ..errors import BadInput


def check_widget(widget: io.Input, value: Any) -> None:
    """Refuse a value outside of the widget's limits or choices, or a text with half a character.

    A list of files has no default, and its nodes say what is wrong with a file.
    """
    if isinstance(widget, io.Combo.Input) and widget.default is not None:
        _check_choice(widget, value)
    elif isinstance(widget, io.Boolean.Input):
        _check_switch(widget.id, value)
    elif isinstance(widget, io.Int.Input | io.Float.Input):
        _check_number(widget, value)
    elif isinstance(widget, io.String.Input):
        _check_text(widget.id, value)


def _check_choice(widget: io.Combo.Input, value: Any) -> None:
    choices = list(widget.options or ())
    if value not in choices:
        known = ", ".join(map(str, choices))
        raise BadInput(f"{widget.id} is {excerpt(value)}; choose one of {known}.")


def _check_switch(name: str, value: Any) -> None:
    """Refuse what is neither on nor off: Python takes any text for on, `false` too."""
    if not isinstance(value, Real) or value not in (0, 1):
        raise BadInput(f"{name} is {excerpt(value)}; set it to true or false.")


def _check_number(widget: io.Int.Input | io.Float.Input, value: Any) -> None:
    low, high = widget.min, widget.max
    is_number = isinstance(value, Real)
    if not is_number or not low <= value <= high:
        shown = _short(value) if is_number else excerpt(value)
        raise BadInput(
            f"{widget.id} is {shown}; set a number from {_short(low)} to {_short(high)}."
        )


def _check_text(name: str, value: Any) -> None:
    if not isinstance(value, str):
        raise BadInput(f"{name} is {excerpt(value)}, which is no text; connect a text.")
    check_characters(name, value)


def check_characters(name: str, text: str) -> None:
    """Refuse a text with half a character, which nothing could hash, show or save."""
    half = half_character(text)
    if half:
        raise BadInput(f"{name} has half a character (a lone surrogate), {half!r}; type it anew.")


def _short(value: float) -> str:
    """Write a whole number without a point."""
    return str(int(value)) if float(value).is_integer() else str(value)
