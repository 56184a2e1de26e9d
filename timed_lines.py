"""Lines of text with a time in front, as users type them."""

from __future__ import annotations

import re
from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass, replace

from .characters import excerpt
from .errors import BadInput

MAX_SECONDS = 1_000_000
MAX_OVER_S = 600.0
"""How long a line may take to come into force."""

_BEGIN = (
    r"^\s*(?P<time>[-+]?(?:\d|\.\d)[\d.,:eE+]*|[-+]?(?:nan|inf(?:inity)?))\s*"
    r"(?P<unit>s|secs?|seconds?|m|mins?|minutes?|h|hours?)?\s*"
)
_TIMED = re.compile(_BEGIN + r"(?:\((?P<option>[^()]*)\)\s*)?:\s*(?P<text>.*?)\s*$", re.IGNORECASE)
_NO_COLON = re.compile(
    _BEGIN + r"\((?P<option>\s*(?:over|smooth|guidance|lora)\b[^()]*)\)", re.IGNORECASE
)
_TIME = re.compile(r"(?:(?:(\d+):)?(\d+):)?(\d+(?:\.\d*)?|\.\d+)")
_CLOCK = re.compile(r"\s*((?:\d+:)?\d+):([0-5]\d(?:\.\d+)?)\s+\S")
_UNSEEN = "\u200b\u200e\u200f\u061c\u2060\u2066\u2067\u2068\u2069\ufeff"  # as web pages copy
_WIDE = "：（），、．"  # as a keyboard for Chinese or Japanese types
_READ_AS = str.maketrans(_WIDE + _UNSEEN, ":(),,." + " " * len(_UNSEEN))
_FOREIGN = re.compile(  # as `5-10: text`, `[5s: text]`, `[5s-10s: text]` and `"80": "text"`
    r"""\s*(?P<begin>
        \d[\d.:]*\s*s?\s*(?:[-\u2013\u2014]|to)\s*\d[\d.:]*\s*s?\s*:
        | \[\s*\d[\d.:]*\s*s?\s*(?:-\s*\d[\d.:]*\s*s?\s*)?:
        | \{?\s*(?P<quote>["'])\d+(?P=quote)\s*:
    )""",
    re.IGNORECASE | re.VERBOSE,
)
_OPTION = re.compile(r"\s*(?P<name>[a-z]+)\s+(?P<value>-?\d+(?:\.\d*)?)\s*s?\s*", re.IGNORECASE)
_CHANGE = re.compile(r"\s*(?P<kind>[a-z]+)\s+(?P<seconds>\d+(?:\.\d*)?)\s*s?\s*", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class TimedLine:
    """A line's number from 1, its start in seconds, what its brackets hold, and its text."""

    number: int
    start_s: float
    option: str | None
    text: str


def timed_lines(text: str, examples: str) -> list[TimedLine]:
    """Read `SECONDS: text`, `MINUTES:SECONDS: text` or `HOURS:MINUTES:SECONDS: text` lines.

    They are in any order. A line without a time continues the text above, or starts at second 0.
    BadInput names a line whose time cannot be read, has no colon after it or is written as other
    programs do, and `examples` of lines that can be read.
    """
    entries: list[TimedLine] = []
    for number, line in enumerate(text.removeprefix("\ufeff").splitlines(), 1):
        match = match_time(line)
        if match:
            _check_colon(line, match["time"], number)
            start_s = _seconds(match, number, examples)
            content = line[match.start("text") : match.end("text")]
            entries.append(TimedLine(number, start_s, match["option"], content))
            continue
        _check_colon_after_brackets(line, number)
        _check_other_notation(line, number, examples)
        if entries:
            last = entries.pop()
            entries.append(replace(last, text=f"{last.text} {line.strip()}".strip()))
        elif line.strip():
            entries.append(TimedLine(number, 0.0, None, line.strip()))
    return entries


def match_time(line: str) -> re.Match[str] | None:
    """The `time`, `option` and `text` of a line; None for a line without a time."""
    return _TIMED.match(in_narrow(line))


def in_narrow(line: str) -> str:
    """A line with narrow forms of the signs that a keyboard for Chinese or Japanese types.

    Marks that no one sees become blanks. No character moves.
    """
    return line.translate(_READ_AS)


def first_time(text: str) -> str | None:
    """The first time that `timed_lines` would read in a text, such as `5:` or `5 (over 2):`."""
    for line in text.splitlines():
        match = match_time(line)
        if match:
            return line[: match.start("text")].strip()
    return None


def check_starts(lines: Iterable[TimedLine], name: str = "") -> None:
    """Refuse (BadInput) two lines for one time, of which only the lower one would count.

    `name` is what the lines are, for the message.
    """
    numbers: dict[float, int] = {}
    for line in lines:
        first = numbers.setdefault(line.start_s, line.number)
        if first != line.number:
            raise BadInput(
                f"Lines {first} and {line.number}{name and f' of the {name}'} both start at "
                f"{line.start_s:g} s; leave one of them out, or give it another time."
            )


def read_options(option: str, names: Container[str]) -> dict[str, float] | None:
    """The numbers in brackets, such as {"over": 2.0, "lora": 0.5} for `over 2, lora 0.5`.

    None for a name that is not in `names`, a name given twice, and what is no number.
    """
    options: dict[str, float] = {}
    for part in option.split(","):
        match = _OPTION.fullmatch(part)
        name = match["name"].lower() if match else ""
        if match is None or name not in names or name in options:
            return None
        options[name] = float(match["value"])
    return options


def read_change(option: str, kinds: Container[str]) -> tuple[str, float] | None:
    """How a line comes into force, such as ("over", 2.0) for `over 2`.

    None for a kind that is not in `kinds`, and for more than `MAX_OVER_S` seconds.
    """
    match = _CHANGE.fullmatch(option)
    if match is None or match["kind"].lower() not in kinds:
        return None
    seconds = float(match["seconds"])
    return (match["kind"].lower(), seconds) if seconds <= MAX_OVER_S else None


def _check_colon(line: str, time: str, number: int) -> None:
    """Refuse `1:30 text`, which reads as second 1 and means a minute and a half."""
    clock = _CLOCK.match(in_narrow(line))
    if clock and clock[1] == time:
        raise BadInput(
            f"Line {number} starts with '{time}:{clock[2]}' and no colon after it; write "
            f"`{time}:{clock[2]}: ...`, or `{time}: {clock[2]} ...` for second {time}."
        )


def _check_colon_after_brackets(line: str, number: int) -> None:
    """Refuse `5 (over 2) text`, which would be words of the line above."""
    begin = _NO_COLON.match(in_narrow(line))
    if begin:
        raise BadInput(
            f"Line {number} has no colon after ({begin['option']}); write "
            f"`{begin['time']} ({begin['option']}): ...`."
        )


def _check_other_notation(line: str, number: int, examples: str) -> None:
    """Refuse the times of other programs, which would be words of the line above."""
    match = _FOREIGN.match(in_narrow(line))
    if match:
        raise BadInput(
            f"Line {number} starts with {excerpt(match['begin'])}, which is no start time here; "
            f"write lines such as {examples}. Each holds until the next one."
        )


def _seconds(begin: re.Match[str], line: int, examples: str) -> float:
    match = _TIME.fullmatch(begin["time"])
    in_seconds = not begin["unit"] or begin["unit"].lower().startswith("s")
    seconds = -1.0
    if match and in_seconds:
        seconds = 3600 * int(match[1] or 0) + 60 * int(match[2] or 0) + float(match[3])
    if not 0 <= seconds <= MAX_SECONDS:
        text = begin["time"] + (f" {begin['unit']}" if begin["unit"] else "")
        raise BadInput(
            f"Line {line} starts with {excerpt(text)}, which is not a time from 0 to "
            f"{MAX_SECONDS} s; write lines such as {examples}."
        )
    return seconds


def first_of(names: Sequence[str], verb: str, plural: str) -> str:
    """The first name with its verb, and how many more there are: a timeline may be a book."""
    more = len(names) - 1
    return f"{names[0]} and {more} more {plural}" if more else f"{names[0]} {verb}"
