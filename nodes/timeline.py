"""The prompt timeline: lines of text with times, as users type them and as the sampler takes
them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from torch import Tensor

from ..errors import BadInput
from ..stream.controls import STRENGTH_DIGITS, STRONGEST_GUIDANCE
from ..stream.run import Prompter

_TIMED = re.compile(
    r"^\s*(?P<time>[-+]?\d[\d.:eE+]*|[-+]?(?:nan|inf)\w*)\s*s?\s*"
    r"(?:\((?P<option>[^()]*)\)\s*)?:\s*(?P<text>.*?)\s*$",
    re.IGNORECASE,
)
_TIME = re.compile(r"(?:(\d+):)?(\d+(?:\.\d*)?)")
_GUIDANCE = re.compile(r"\s*guidance\s+(?P<strength>\d+(?:\.\d*)?)\s*", re.IGNORECASE)
MAX_SECONDS = 1_000_000


@dataclass(frozen=True, slots=True)
class TimedText:
    """A prompt in words, the second it starts at, and the guidance strength from there on, if it
    changes.
    """

    start_s: float
    text: str
    guidance: float | None = None


@dataclass(frozen=True, slots=True)
class TimedEmbedding:
    """A `TimedText` with its encoded prompt (l, c)."""

    start_s: float
    embedding: Tensor
    text: str
    guidance: float | None = None


@dataclass(frozen=True, slots=True)
class Timeline:
    """Prompts in the order they were written, and the embedding (l, c) of what should not be shown.

    One starts at 0; where several fall on one chunk, the last one written counts. `prompter`
    encodes prompts that are changed while the shot is made.
    """

    entries: tuple[TimedEmbedding, ...]
    negative: Tensor
    prompter: Prompter | None = None


def parse(text: str) -> list[TimedText]:
    """Read `SECONDS: prompt` or `MINUTES:SECONDS: prompt` lines; others go on with the one above.

    Before its colon a time may be followed by `(guidance STRENGTH)`, which holds until another line
    changes it. Text that starts without a time is the prompt from second 0. Lines may come in any
    order; they are given as they come.
    """
    entries: list[TimedText] = []
    for number, line in enumerate(text.splitlines(), 1):
        match = _TIMED.match(line)
        if match:
            guidance = _strength(match["option"], number)
            entries.append(TimedText(_seconds(match["time"], number), match["text"], guidance))
        elif entries:
            last = entries.pop()
            entries.append(replace(last, text=f"{last.text} {line.strip()}".strip()))
        elif line.strip():
            entries.append(TimedText(0.0, line.strip()))
    first = min((entry.start_s for entry in entries), default=0.0)
    if first != 0:
        raise BadInput(
            f"The first prompt starts at {first:g} s, so nothing says what to show before; add a "
            "line that starts at 0."
        )
    return entries or [TimedText(0.0, "")]


def written(entry: TimedText) -> str:
    """The line that `parse` reads as `entry`; its text must have no line breaks."""
    option = "" if entry.guidance is None else f" (guidance {_short(entry.guidance)})"
    return f"{_short(entry.start_s)}{option}: {entry.text}"


def _short(value: float) -> str:
    """To a thousandth of a frame, which is more than a chunk needs, and all of a strength."""
    return f"{value:.{STRENGTH_DIGITS}f}".rstrip("0").rstrip(".")


def _strength(option: str | None, line: int) -> float | None:
    """The guidance strength in a line's brackets."""
    if option is None:
        return None
    match = _GUIDANCE.fullmatch(option)
    strength = float(match["strength"]) if match else -1.0
    if not 0 <= strength <= STRONGEST_GUIDANCE:
        raise BadInput(
            f"Line {line} has ({option}) before its colon; write (guidance 3), with a strength "
            f"from 0 to {STRONGEST_GUIDANCE:g}, or nothing."
        )
    return strength


def _seconds(written: str, line: int) -> float:
    match = _TIME.fullmatch(written)
    seconds = 60 * int(match[1] or 0) + float(match[2]) if match else -1.0
    if not 0 <= seconds <= MAX_SECONDS:
        raise BadInput(
            f"Line {line} starts with {written!r}, which is not a time from 0 to {MAX_SECONDS} s; "
            "write lines such as `5.5: a red ball` or `1:30: a blue ball`."
        )
    return seconds
