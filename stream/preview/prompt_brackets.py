"""What stands before a live prompt: brackets as in a line of timed prompts, and no time."""

from __future__ import annotations

import re

from ..rollout.live.edit_queue import RANGES

OVER = "over"
NAMES = "|".join((OVER, *RANGES))
_BRACKETS = re.compile(
    rf"\s*\((?P<options>\s*(?:{NAMES})\b[^()]*)\)\s*(?P<colon>:?)\s*(?P<text>.*)",
    re.IGNORECASE | re.DOTALL,
)
_OPTION = re.compile(rf"\s*({NAMES})\s+(-?\d+(?:\.\d*)?)\s*s?\s*", re.IGNORECASE)
_TIME = re.compile(
    r"\s*(\d[\d.:]*\s*(?:s|secs?|seconds?|m|mins?|minutes?|h|hours?)?\s*(?:\([^()]*\)\s*)?:)\s*\S",
    re.IGNORECASE,
)
_NARROW = str.maketrans("（：，）", "(:,)")  # as a keyboard for Chinese or Japanese types


def time_before(text: str) -> str | None:
    """The time before a prompt, such as `5:` or `1:30 (over 2):`; None where there is none."""
    match = _TIME.match(text.translate(_NARROW))
    return None if match is None else text[match.start(1) : match.end(1)]


class Unreadable(ValueError):
    """Brackets that begin as options and are none."""


def split_brackets(text: str) -> tuple[dict[str, float], str]:
    """The numbers of `(over 2, guidance 3): a cat` and `a cat`; other brackets are words.

    Unreadable for options without a colon or a number, or given twice.
    """
    match = _BRACKETS.match(text.translate(_NARROW))
    if match is None:
        return {}, text
    parts = [_OPTION.fullmatch(part) for part in match["options"].split(",")]
    pairs = [(part[1].lower(), float(part[2])) for part in parts if part is not None]
    options, prompt = dict(pairs), text[match.start("text") :]
    if not match["colon"] or not prompt.strip() or len(options) < len(parts):
        raise Unreadable
    return options, prompt
