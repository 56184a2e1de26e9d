"""What a node refuses as a workflow is queued, before models are loaded and chunks are made.

The host repeats a sentence for every input that `validate_inputs` names, so it names one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..errors import BadInput
from . import host


def verdict(check: Callable[[Any], object], value: object) -> bool | str:
    """True, or the sentence by which `check` refuses a text; a link's value (None) comes later."""
    if not isinstance(value, str):
        return True
    try:
        check(value)
    except BadInput as error:
        return str(error)
    return True


class NamesFile:
    """A node that writes a file with a name from `filename_prefix`."""

    @classmethod
    def validate_inputs(cls, filename_prefix: str | None = None) -> bool | str:
        """Refuse a prefix that names no file in the output folder."""
        return verdict(host.check_prefix, filename_prefix)
