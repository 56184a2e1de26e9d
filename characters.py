"""Characters that no file, terminal or hash can hold, and texts that no sentence can."""

from __future__ import annotations

import re

_HALF = re.compile("[\ud800-\udfff]")
_AROUND = 16
MAX_SHOWN = 60  # characters of a value in a sentence


def half_character(text: str) -> str | None:
    """A text's first lone surrogate, with what stands around it; None if there is none.

    JSON and the bytes of a command line can carry one.
    """
    match = _HALF.search(text)
    return text[max(match.start() - _AROUND, 0) : match.end() + _AROUND] if match else None


def cut_to_bytes(text: str, most: int) -> str:
    """A text's beginning in at most `most` bytes of UTF-8, for a file's name.

    Lone surrogates are left out.
    """
    return text.encode(errors="ignore")[:most].decode(errors="ignore")


def excerpt(value: object) -> str:
    """A value as Python writes it, cut to fit into a sentence: a user may give a whole book."""
    if isinstance(value, str):
        return repr(value if len(value) <= MAX_SHOWN else f"{value[:MAX_SHOWN]}...")
    return repr(value)[:MAX_SHOWN]
