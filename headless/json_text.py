"""JSON from outside: a user's file, or a server's answer."""

from __future__ import annotations

import json
from typing import Any


def parse_json(text: str) -> Any:
    """Return the value of a JSON text; raise ValueError if its depth or its texts are unusable.

    A lone surrogate is valid JSON, but no file or terminal can hold it.
    """
    try:
        value = json.loads(text)
        if "\\ud" in text.lower():
            json.dumps(value, ensure_ascii=False).encode()
    except RecursionError as error:
        raise ValueError("it is nested too deep") from error
    except UnicodeEncodeError as error:
        raise ValueError(f"it has half a character, {error.object[error.start]!r}") from error
    return value
