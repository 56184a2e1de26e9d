"""Reads and checks the bodies of the preview's POST requests."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

from ...characters import half_character
from ...timed_lines import first_time
from ..incoming.inlet import FAULTS, Fault
from ..rollout.live.controls import Controls
from ..rollout.live.edit_queue import MAX_OVER_S, RANGES
from .prompt_brackets import Unreadable, split_brackets

MAX_PROMPT_CHARACTERS = 8192
MAX_CLIENT_ID = 256
MAX_REV = 2**53 - 1  # the largest integer that every JSON reader keeps exact

Command = Callable[[Controls], None]


class BadRequest(ValueError):
    """The body is invalid; the message is one sentence."""


@dataclass(frozen=True, slots=True)
class Control:
    """A command for the run, and its number, which grows with every request of a page."""

    rev: int
    command: Command


def read_control(body: bytes) -> Control:
    """Read {"op": ..., "rev": ...} with the "text", "over", numbers or "fork_seed" of the op."""
    fields = read_fields(body, {"op", "rev", "text", "over", *RANGES, "fork_seed"})
    rev = fields.get("rev")
    if type(rev) is not int or not 1 <= rev <= MAX_REV:
        raise BadRequest(f"rev must be a whole number from 1 to {MAX_REV}.")
    return Control(rev, _command(fields))


def read_client_id(body: bytes) -> str:
    """Read {"client_id": ...}, the browser tab that asks."""
    return read_text(read_fields(body, {"client_id"}), "client_id", MAX_CLIENT_ID)


def read_fault(body: bytes) -> Fault:
    """Read {"fault": ...}, why a page sends no pictures."""
    fault = read_fields(body, {"fault"}).get("fault")
    for known in FAULTS:
        if fault == known:
            return known
    raise BadRequest(f"fault must be {' or '.join(FAULTS)}.")


def _command(fields: dict[str, Any]) -> Command:
    simple: dict[str, Command] = {
        "pause": lambda controls: controls.pause(),
        "resume": lambda controls: controls.resume(),
        "stop": lambda controls: controls.stop(),
    }
    op = fields.get("op")
    if op == "prompt":
        fields = _with_options(fields)
        return _edit(fields) if fields.keys() & RANGES.keys() else _prompt(fields)
    for name, (low, high) in RANGES.items():
        if op == name:
            value = _number(fields, name, low, high)
            return partial(Controls.set_number, name=name, value=value)
    if op == "edit":
        return _edit(_with_options(fields))
    if op == "fork_seed":
        seed = fields.get("fork_seed")
        if type(seed) is not int or not 0 <= seed <= MAX_REV:
            raise BadRequest(f"fork_seed must be a whole number from 0 to {MAX_REV}.")
        return lambda controls: controls.edit_queue.hold_seed(seed)
    if isinstance(op, str) and op in simple:
        return simple[op]
    ops = ", ".join((*simple, "prompt", *RANGES, "edit"))
    raise BadRequest(f"op must be {ops} or fork_seed.")


def _with_options(fields: dict[str, Any]) -> dict[str, Any]:
    """Put the options in brackets before the text beside it; refuse a time before the text."""
    text = fields.get("text")
    if not isinstance(text, str) or len(text) > MAX_PROMPT_CHARACTERS:
        return fields  # which is refused
    text = " ".join(text.split())
    time = first_time(text)
    if time is not None:
        raise BadRequest(
            f"The prompt has the time `{time}`, but a live prompt begins with the next chunk; "
            "leave the time out."
        )
    try:
        options, prompt = split_brackets(text)
    except Unreadable as error:
        raise BadRequest(
            "The brackets before the prompt cannot be read; write (over 2): or (guidance 3, lora "
            "0): with a colon before the prompt."
        ) from error
    twice = fields.keys() & options.keys()
    if twice:
        raise BadRequest(f"{min(twice)} is given in brackets and beside them; leave one out.")
    return {**fields, **options, "text": prompt}


def _prompt(fields: dict[str, Any]) -> Command:
    """Read another prompt, and the seconds over which it blends in."""
    text = read_text(fields, "text", MAX_PROMPT_CHARACTERS)
    return partial(Controls.set_prompt, text=text, over_s=_over(fields))


def _edit(fields: dict[str, Any]) -> Command:
    """Read a prompt, numbers or both; all are in force, or none is."""
    text = read_text(fields, "text", MAX_PROMPT_CHARACTERS) if "text" in fields else None
    numbers = {
        name: _number(fields, name, *limits) for name, limits in RANGES.items() if name in fields
    }
    if text is None and not numbers:
        raise BadRequest(f"edit needs text, {', '.join(RANGES)}, or several of these.")
    return partial(Controls.change, text=text, numbers=numbers, over_s=_over(fields))


def _over(fields: dict[str, Any]) -> float:
    """Read the seconds over which a prompt blends in; 0 if it begins at once."""
    if "over" not in fields:
        return 0.0
    if "text" not in fields:
        raise BadRequest("over needs text: a prompt blends in, and numbers change at once.")
    return _number(fields, "over", 0.0, MAX_OVER_S)


def read_fields(body: bytes, known: set[str]) -> dict[str, Any]:
    """Read a JSON object that has no other fields than the `known` ones."""
    try:
        fields = json.loads(body)
    except (ValueError, RecursionError) as error:  # RecursionError: brackets a thousand deep
        raise BadRequest("The body is not JSON.") from error
    if not isinstance(fields, dict) or not fields.keys() <= known:
        raise BadRequest(f"The body must be a JSON object with {', '.join(sorted(known))} only.")
    return fields


def read_text(fields: dict[str, Any], name: str, max_characters: int) -> str:
    """Read a text that is not blank and whose characters are whole."""
    text = fields.get(name)
    if not isinstance(text, str) or not text.strip() or len(text) > max_characters:
        raise BadRequest(f"{name} must be a text of 1 to {max_characters} characters.")
    if half_character(text):
        raise BadRequest(f"{name} has half a character (a lone surrogate); send valid Unicode.")
    return text


def _number(fields: dict[str, Any], name: str, minimum: float, maximum: float) -> float:
    value = fields.get(name)
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if number and minimum <= cast("float", value) <= maximum:  # false for NaN
        return float(cast("float", value))
    raise BadRequest(f"{name} must be a number from {minimum:g} to {maximum:g}.")
