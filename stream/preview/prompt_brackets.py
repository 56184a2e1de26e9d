"""What stands before a live prompt: brackets as in a line of timed prompts, and no time."""

from __future__ import annotations

import re

from ...timed_lines import in_narrow, read_options
from ..rollout.live.edit_queue import RANGES

NAMES = ("over", *RANGES)
_BRACKETS = re.compile(
    rf"\s*\((?P<options>\s*(?:{'|'.join(NAMES)})\b[^()]*)\)\s*(?P<colon>:?)\s*(?P<text>.*)",
    re.IGNORECASE | re.DOTALL,
)


class Unreadable(ValueError):
    """Brackets that begin as options and are none."""


def split_brackets(text: str) -> tuple[dict[str, float], str]:
    """The numbers of `(over 2, guidance 3): a cat` and `a cat`; other brackets are words.

    Unreadable for options without a colon or a number, or given twice.
    """
    match = _BRACKETS.match(in_narrow(text))
    if match is None:
        return {}, text
    options, prompt = read_options(match["options"], NAMES), text[match.start("text") :]
    if options is None or not match["colon"] or not prompt.strip():
        raise Unreadable
    return options, prompt
