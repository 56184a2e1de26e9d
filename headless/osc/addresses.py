"""The OSC addresses that control a run, and the requests of the player's route that they stand for.

Open Sound Control 1.0: an address, then arguments of the types text (s), number (f, i) or truth
(T, F).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ...samplers.camera.keys import PUSHES
from ...stream.rollout.live.edit_queue import MAX_OVER_S, RANGES, Number

PREFIX = "/longtake/"
HELP = f"{PREFIX}help"
HELP_LINE = f"{HELP} (none): the list of addresses, sent back to the port that asked"
MAX_SEED = 2**53 - 1  # as the route takes it: every JSON reader keeps it exact

Request = dict[str, Any]
Arguments = Sequence[object]


class Unreadable(ValueError):
    """A message cannot be obeyed; the text is one sentence."""


@dataclass(frozen=True, slots=True)
class Address:
    """One address: its arguments in words, what it does, and how it becomes a request."""

    arguments: str
    effect: str
    read: Callable[[Arguments], Request]


def _prompt(arguments: Arguments) -> Request:
    text, over = arguments[0] if arguments else None, _finite(arguments[1:])
    if not isinstance(text, str) or len(arguments) > 2 or len(over) != len(arguments) - 1:
        raise Unreadable(f"{PREFIX}prompt takes one text, and seconds to blend over if you like.")
    return {"op": "prompt", "text": text, **({"over": over[0]} if over else {})}


def _number(op: Number, effect: str) -> Address:
    low, high = RANGES[op]

    def read(arguments: Arguments) -> Request:
        numbers = _finite(arguments)
        if len(numbers) != 1:
            raise Unreadable(f"{PREFIX}{op} takes one number.")
        return {"op": op, op: numbers[0]}

    return Address(f"number, {low:g} to {high:g}", effect, read)


def _fork_seed(arguments: Arguments) -> Request:
    numbers = _finite(arguments)
    if len(numbers) != 1 or not numbers[0].is_integer() or not 0 <= numbers[0] <= MAX_SEED:
        raise Unreadable(f"{PREFIX}fork/seed takes one whole number from 0 to {MAX_SEED}.")
    return {"op": "fork_seed", "fork_seed": int(numbers[0])}


def _push(arguments: Arguments) -> Request:
    sticks = _finite(arguments)
    if len(sticks) != PUSHES or max(map(abs, sticks)) > 1:
        raise Unreadable(f"{PREFIX}camera takes {PUSHES} numbers from -1 to 1.")
    return {"op": "camera", "sticks": sticks}


def _finite(arguments: Arguments) -> list[float]:
    """The arguments if all are finite numbers, else none."""
    numbers = [
        float(value)
        for value in arguments
        if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    ]
    return numbers if len(numbers) == len(arguments) else []


def _switch(on: str, off: str | None = None) -> Callable[[Arguments], Request]:
    """A button: pressed is no argument, true or not 0; released is false or 0."""

    def read(arguments: Arguments) -> Request:
        pressed = not arguments or bool(arguments[0])
        op = on if pressed else off
        return {"op": op} if op else {}

    return read


ADDRESSES: Mapping[str, Address] = {
    f"{PREFIX}prompt": Address(
        f"text, then perhaps a number, 0 to {MAX_OVER_S:g}",
        "another prompt from the next chunk on, blended in over so many seconds",
        _prompt,
    ),
    f"{PREFIX}guidance": _number("guidance", "another guidance strength from the next chunk on"),
    f"{PREFIX}strength": _number(
        "strength", "how strongly the shot follows its control video from the next chunk on"
    ),
    f"{PREFIX}level": _number(
        "level", "how much live frames and known videos are redrawn from the next chunk on"
    ),
    f"{PREFIX}lora": _number("lora", "the LoRA strength, as a factor of the workflow's"),
    f"{PREFIX}fork/seed": Address(
        "whole number, 0 to 2^53 - 1", "the seed that the next fork or live edit takes", _fork_seed
    ),
    f"{PREFIX}camera": Address(
        "5 numbers, -1 to 1", "push the camera: right, up, forward, turned right, tilted up", _push
    ),
    f"{PREFIX}pause": Address(
        "none or 1 pauses, 0 goes on", "wait before the next chunk", _switch("pause", "resume")
    ),
    f"{PREFIX}resume": Address("none", "go on after a pause", _switch("resume")),
    f"{PREFIX}stop": Address("none", "end after this chunk and keep it", _switch("stop")),
}


def read_request(address: str, arguments: Arguments) -> Request:
    """The request that a message stands for, empty for a button's release; or Unreadable."""
    known = ADDRESSES.get(address)
    if known is None:
        raise Unreadable(f"{address} is unknown; send {HELP} for a list.")
    return known.read(arguments)


def describe() -> list[str]:
    """One line for each address."""
    return [f"{name} ({known.arguments}): {known.effect}" for name, known in ADDRESSES.items()]
