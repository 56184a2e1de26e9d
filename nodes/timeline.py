"""The prompt timeline: lines of text with times, as users type them and as the sampler takes
them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from torch import Tensor

from ..errors import BadInput

_TIMED = re.compile(
    r"^\s*((?:[-+]?\d[\d.:eE+]*|[-+]?(?:nan|inf)\w*))\s*s?\s*:\s*(.*?)\s*$", re.IGNORECASE
)
_TIME = re.compile(r"(?:(\d+):)?(\d+(?:\.\d*)?)")
MAX_SECONDS = 1_000_000


@dataclass(frozen=True, slots=True)
class TimedText:
    """A prompt in words and the second it starts at."""

    start_s: float
    text: str


@dataclass(frozen=True, slots=True)
class TimedEmbedding:
    """An encoded prompt (l, c), the second it starts at, and its words."""

    start_s: float
    embedding: Tensor
    text: str


@dataclass(frozen=True, slots=True)
class Timeline:
    """Prompts by time, the first from 0, and the embedding (l, c) of what should not be shown."""

    entries: tuple[TimedEmbedding, ...]
    negative: Tensor


def parse(text: str) -> list[TimedText]:
    """Read `SECONDS: prompt` or `MINUTES:SECONDS: prompt` lines; others go on with the one above.

    Text that starts without a time is the prompt from second 0. Lines may come in any order.
    """
    entries: list[TimedText] = []
    for number, line in enumerate(text.splitlines(), 1):
        match = _TIMED.match(line)
        if match:
            entries.append(TimedText(_seconds(match[1], number), match[2]))
        elif entries:
            last = entries.pop()
            entries.append(TimedText(last.start_s, f"{last.text} {line.strip()}".strip()))
        elif line.strip():
            entries.append(TimedText(0.0, line.strip()))
    return _checked(sorted(entries, key=lambda entry: entry.start_s))


def _checked(entries: list[TimedText]) -> list[TimedText]:
    if not entries:
        return [TimedText(0.0, "")]
    if entries[0].start_s != 0:
        raise BadInput(
            f"The first prompt starts at {entries[0].start_s:g} s, so nothing says what to show "
            "before; add a line that starts at 0."
        )
    for one, other in zip(entries, entries[1:], strict=False):
        if one.start_s == other.start_s:
            raise BadInput(f"Two prompts start at {one.start_s:g} s; give each its own time.")
    return entries


def _seconds(written: str, line: int) -> float:
    match = _TIME.fullmatch(written)
    seconds = 60 * int(match[1] or 0) + float(match[2]) if match else -1.0
    if not 0 <= seconds <= MAX_SECONDS:
        raise BadInput(
            f"Line {line} starts with {written!r}, which is not a time from 0 to {MAX_SECONDS} s; "
            "write lines such as `5.5: a red ball` or `1:30: a blue ball`."
        )
    return seconds
