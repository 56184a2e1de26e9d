"""Characters and names that no file, terminal or hash can hold, texts no sentence can, and the
commas of a list.
"""

from __future__ import annotations

import re

_HALF = re.compile("[\ud800-\udfff]")
_AROUND = 16
_DEVICE = re.compile(r"(con|prn|aux|nul|com[0-9¹²³]|lpt[0-9¹²³])\s*(\..*)?", re.IGNORECASE)
MAX_SHOWN = 60  # characters of a value in a sentence
COMMAS = ",，、"
"""What stands between the entries of a list. Keyboards for Chinese and Japanese type wide ones."""

_BETWEEN = re.compile(rf"[{COMMAS}\s]+")


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


def is_device(name: str) -> bool:
    """Whether Windows takes a file's or folder's name for a device, whatever the ending."""
    return _DEVICE.fullmatch(name) is not None


def is_cut_on_windows(name: str) -> bool:
    """Whether Windows drops a dot or blank at the end of a name, and so has another one."""
    return name != name.rstrip(". ")


def list_entries(text: str) -> list[str]:
    """The entries of a list as users type it, with commas or blanks between them."""
    return [entry for entry in _BETWEEN.split(text) if entry]


def excerpt(value: object) -> str:
    """A value as Python writes it, cut to fit into a sentence: a user may give a whole book."""
    if isinstance(value, str):
        return repr(value if len(value) <= MAX_SHOWN else f"{value[:MAX_SHOWN]}...")
    return repr(value)[:MAX_SHOWN]
