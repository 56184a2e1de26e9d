"""A heard feature as a few numbers over time."""

from __future__ import annotations

import numpy as np

from ..conditioning.timed_numbers import TimedNumber
from .features import PER_SECOND, Values

DIGITS = 3


def curve(values: Values, low: float, high: float, every_s: float) -> list[TimedNumber]:
    """The mean of each `every_s` seconds between `low` (0) and `high` (1), where it changes.

    After the sound it is `low`.
    """
    size = round(every_s * PER_SECOND)
    numbers = list[TimedNumber]()
    parts = [values[start : start + size] for start in range(0, len(values), size)]
    for i, part in enumerate([*parts, np.zeros(1)]):
        start = min(i * size, len(values)) / PER_SECOND
        value = round(low + (high - low) * float(part.mean()), DIGITS)
        if not numbers or value != numbers[-1].value:
            numbers.append(TimedNumber(start, value))
    return numbers


def lines_of(numbers: list[TimedNumber]) -> str:
    """Lines `SECONDS: number`, as other nodes read them."""
    return "\n".join(f"{number.start_s:.10g}: {number.value:g}" for number in numbers)
