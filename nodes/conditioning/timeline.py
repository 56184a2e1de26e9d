"""The prompt timeline: lines of text with times, as users type them and as the sampler takes
them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from torch import Tensor

from ...errors import BadInput
from ...stream.rollout.controls import MAX_GUIDANCE, STRENGTH_DIGITS
from ...stream.rollout.spec import Prompter

_TIMED = re.compile(
    r"^\s*(?P<time>[-+]?\d[\d.:eE+]*|[-+]?(?:nan|inf)\w*)\s*s?\s*"
    r"(?:\((?P<option>[^()]*)\)\s*)?:\s*(?P<text>.*?)\s*$",
    re.IGNORECASE,
)
_TIME = re.compile(r"(?:(\d+):)?(\d+(?:\.\d*)?)")
_OPTION = re.compile(
    r"\s*(?P<name>guidance|over)\s+(?P<value>\d+(?:\.\d*)?)\s*s?\s*", re.IGNORECASE
)
MAX_SECONDS = 1_000_000


@dataclass(frozen=True, slots=True)
class TimedText:
    """A prompt in words, the second it starts at, and the guidance strength from there on, if it
    changes. It takes over little by little, in `over_s` seconds.
    """

    start_s: float
    text: str
    guidance: float | None = None
    over_s: float = 0.0


@dataclass(frozen=True, slots=True)
class TimedEmbedding:
    """A `TimedText` with its encoded prompt (l, c)."""

    start_s: float
    embedding: Tensor
    text: str
    guidance: float | None = None
    over_s: float = 0.0


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
    changes it, `(over SECONDS)` for a prompt that takes over little by little, or both with a comma
    between. Text that starts without a time is the prompt from second 0. Lines may come in any
    order; they are given as they come.
    """
    entries: list[TimedText] = []
    for number, line in enumerate(text.splitlines(), 1):
        match = _TIMED.match(line)
        if match:
            guidance, over_s = _options(match["option"], number)
            start_s = _seconds(match["time"], number)
            entries.append(TimedText(start_s, match["text"], guidance, over_s))
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
    """The line that `parse` reads as `entry`; its text must have no line breaks.

    The time gets its unit where the text would otherwise be read as part of it, such as `:`.
    """
    options = [] if entry.guidance is None else [f"guidance {_short(entry.guidance)}"]
    options += [f"over {_short(entry.over_s)}"] if entry.over_s else []
    start = _short(entry.start_s)
    rest = f" ({', '.join(options)}): {entry.text}" if options else f": {entry.text}"
    read = _TIMED.match(f"{start}{rest}")
    return f"{start}{rest}" if read and read["time"] == start else f"{start} s{rest}"


def _short(value: float) -> str:
    """To a thousandth of a frame, which is more than a chunk needs, and all of a strength."""
    return f"{value:.{STRENGTH_DIGITS}f}".rstrip("0").rstrip(".")


def _options(written: str | None, line: int) -> tuple[float | None, float]:
    """The guidance strength and the seconds to take over in, of a line's brackets."""
    found: dict[str, float] = {}
    for part in written.split(",") if written is not None else ():
        match = _OPTION.fullmatch(part)
        name, value = (match["name"].lower(), float(match["value"])) if match else ("", -1.0)
        most = {"guidance": MAX_GUIDANCE, "over": MAX_SECONDS}.get(name, -1.0)
        if not 0 <= value <= most or name in found:
            raise BadInput(
                f"Line {line} has ({written}) before its colon; write (guidance 3), with a "
                f"strength from 0 to {MAX_GUIDANCE:g}, (over 2), with seconds to take over "
                "in, (guidance 3, over 2), or nothing."
            )
        found[name] = value
    return found.get("guidance"), found.get("over", 0.0)


def _seconds(written: str, line: int) -> float:
    match = _TIME.fullmatch(written)
    seconds = 60 * int(match[1] or 0) + float(match[2]) if match else -1.0
    if not 0 <= seconds <= MAX_SECONDS:
        raise BadInput(
            f"Line {line} starts with {written!r}, which is not a time from 0 to {MAX_SECONDS} s; "
            "write lines such as `5.5: a red ball` or `1:30: a blue ball`."
        )
    return seconds
