"""Numbers that change over a shot, as users type them or as Sound Curve writes them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from ...errors import BadInput
from .timed_lines import MAX_OVER_S, read_change, timed_lines

EXAMPLES = "`0: 1` or `4 (over 2): 0.3`"


@dataclass(frozen=True, slots=True)
class TimedNumber:
    """A number from `start_s` seconds on, reached over `over_s` seconds."""

    start_s: float
    value: float
    over_s: float = 0.0


def read_numbers(text: str, name: str, most: float) -> tuple[TimedNumber, ...]:
    """Read `SECONDS: number` lines, or one number; `(over SECONDS)` after the time eases in.

    `name` is what the numbers are, for messages. Raises BadInput for a line that is no number from
    0 to `most`.
    """
    lines = timed_lines(text, EXAMPLES)
    values = (_value(line.text, line.number, name, most) for line in lines)
    overs = (_over(line.option, line.number, name) for line in lines)
    starts = (line.start_s for line in lines)
    return tuple(map(TimedNumber, starts, values, overs))


def number_at(numbers: Sequence[TimedNumber], time_s: float) -> float:
    """The number in force at a time: the first one before all, and of two at once the last.

    `numbers` are in order of time.
    """
    value = numbers[0].value
    for i, number in enumerate(numbers):
        if i and number.start_s > time_s:
            break
        following = numbers[i + 1].start_s if i + 1 < len(numbers) else math.inf
        passed = min(time_s, following) - number.start_s
        share = min(1.0, max(0.0, passed) / number.over_s) if number.over_s else 1.0
        value += share * (number.value - value)
    return value


def _value(text: str, line: int, name: str, most: float) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value <= most:
        raise BadInput(
            f"Line {line} of the {name} says {text!r}; write a number from 0 to {most:g}, or "
            f"lines such as {EXAMPLES}."
        )
    return value


def _over(option: str | None, line: int, name: str) -> float:
    if option is None:
        return 0.0
    change = read_change(option, ("over",))
    if change is None:
        raise BadInput(
            f"Line {line} of the {name} has ({option}) before its colon; write (over 2) with the "
            f"seconds in which it changes, at most {MAX_OVER_S:g}, or nothing."
        )
    return change[1]
