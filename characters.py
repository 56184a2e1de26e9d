"""Characters that no file, terminal or hash can hold."""

from __future__ import annotations

import re

_HALF = re.compile("[\ud800-\udfff]")
_AROUND = 16


def half_character(text: str) -> str | None:
    """A text's first lone surrogate, with what stands around it; None if there is none.

    JSON and the bytes of a command line can carry one.
    """
    match = _HALF.search(text)
    return text[max(match.start() - _AROUND, 0) : match.end() + _AROUND] if match else None
