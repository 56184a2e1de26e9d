"""Opening videos to read them. Their texts, such as a title, may be in any encoding."""

from __future__ import annotations

from typing import Any

import av
from av.container import InputContainer

from ...versions import version_numbers

READS_ANY_TEXT = "19"
"""PyAV's version since which it reads texts in any encoding, and is not told to."""


def open_to_read(file: Any, **options: Any) -> InputContainer:
    """`av.open` to read `file`, a path or a file object, with further `options`."""
    container: InputContainer = av.open(file, "r", **text_options(av.__version__), **options)
    return container


def text_options(pyav: str) -> dict[str, Any]:
    """What this version of PyAV has to be told, or it fails at texts that are not UTF-8."""
    reads_any = version_numbers(pyav) >= version_numbers(READS_ANY_TEXT)
    return {} if reads_any else {"metadata_errors": "replace"}
