"""Numbers that change over a shot, as users type them or as Sound Curve writes them."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise

from ...characters import excerpt
from ...errors import BadInput
from ...timed_lines import MAX_OVER_S, check_starts, read_change, timed_lines

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
    0 to `most`, for two lines of one time, and for a text without a line.
    """
    lines = timed_lines(text, EXAMPLES)
    if not lines:
        raise BadInput(
            f"The {name} is empty; write a number from 0 to {most:g}, or lines such as {EXAMPLES}."
        )
    check_starts(lines, name)
    values = (_value(line.text, line.number, name, most) for line in lines)
    overs = (_over(line.option, line.number, name) for line in lines)
    starts = (line.start_s for line in lines)
    return tuple(map(TimedNumber, starts, values, overs))


class NumbersOverTime:
    """Which number is in force when; each holds until the next, and of two at once the last."""

    def __init__(self, numbers: Iterable[TimedNumber]) -> None:
        self._numbers = sorted(numbers, key=lambda number: number.start_s)
        self._starts = [number.start_s for number in self._numbers]
        self._before = [self._numbers[0].value]  # the value that each number eases from
        for number, following in pairwise(self._numbers):
            value = _eased(self._before[-1], number, following.start_s)
            self._before.append(value)

    @property
    def end_s(self) -> float:
        """When the last number is reached."""
        return self._starts[-1] + self._numbers[-1].over_s

    def at(self, time_s: float) -> float:
        """The number at a time; the first one before all."""
        latest = max(0, bisect_right(self._starts, time_s) - 1)
        return _eased(self._before[latest], self._numbers[latest], time_s)


def _eased(before: float, number: TimedNumber, time_s: float) -> float:
    """The value at a time that is not before the number's start, or that of the first number."""
    passed = max(0.0, time_s - number.start_s)
    share = min(1.0, passed / number.over_s) if number.over_s else 1.0
    return before + share * (number.value - before)


def _value(text: str, line: int, name: str, most: float) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value <= most:
        raise BadInput(
            f"Line {line} of the {name} says {excerpt(text)}; write a number from 0 to {most:g}, "
            f"or lines such as {EXAMPLES}."
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
