"""Types of the command line's values. They refuse what click's own would pass on: an empty text, as
a shell's unset variable gives, and `nan` as a number of a range.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
from click import Context, Parameter
from click.types import StringParamType

from ...errors import BadInput

EMPTY = "It is empty."
SLASHES = tuple({os.sep, os.altsep or os.sep})


class Text(StringParamType):
    """A text of one letter or more, blanks aside."""

    def convert(self, value: Any, param: Parameter | None, ctx: Context | None) -> str:
        if isinstance(value, str) and not value.strip():
            self.fail(EMPTY, param, ctx)
        return str(super().convert(value, param, ctx))


class FilePath(click.Path):
    """A file or folder. An empty name would be the working folder."""

    def __init__(self) -> None:
        super().__init__(path_type=Path)

    def convert(
        self, value: str | os.PathLike[str], param: Parameter | None, ctx: Context | None
    ) -> Any:
        if value == "":
            self.fail(EMPTY, param, ctx)
        return super().convert(value, param, ctx)


class OutputFile(FilePath):
    """A file to write. A name that ends with a slash is a folder's, and pathlib would drop it."""

    def convert(
        self, value: str | os.PathLike[str], param: Parameter | None, ctx: Context | None
    ) -> Any:
        if os.fspath(value).endswith(SLASHES):
            self.fail(f"{os.fspath(value)!r} is a folder; name a file in it.", param, ctx)
        return super().convert(value, param, ctx)


class Number(click.FloatRange):
    """A number within limits, or `inf` where there is no upper limit."""

    def convert(self, value: Any, param: Parameter | None, ctx: Context | None) -> Any:
        number = super().convert(value, param, ctx)
        if math.isnan(number):
            self.fail(f"{value!r} is not a number.", param, ctx)
        return number


class FiniteNumber(Number):
    """A number within limits that is not `inf`."""

    def convert(self, value: Any, param: Parameter | None, ctx: Context | None) -> Any:
        number = super().convert(value, param, ctx)
        if math.isinf(number):
            self.fail(f"{value!r} is not finite.", param, ctx)
        return number


class Parsed(StringParamType):
    """What `parse` makes of a text; its BadInput is wrong usage."""

    def __init__(self, parse: Callable[[str], Any]) -> None:
        self._parse = parse

    def convert(self, value: Any, param: Parameter | None, ctx: Context | None) -> Any:
        try:
            return self._parse(value)
        except BadInput as error:
            self.fail(str(error), param, ctx)


FILE, OUTPUT_FILE, TEXT = FilePath(), OutputFile(), Text()
