"""Types of the command line's values, which refuse an empty text: an unset variable of a shell."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import click
from click import Context, Parameter
from click.types import StringParamType

EMPTY = "It is empty."


class Text(StringParamType):
    """A text of one letter or more."""

    def convert(self, value: Any, param: Parameter | None, ctx: Context | None) -> str:
        if value == "":
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


FILE, TEXT = FilePath(), Text()
