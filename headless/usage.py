"""Faults of the command line itself, which end a command with another code than a failed run."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from ..errors import BadInput


class WrongUsage(BadInput):
    """An argument, or the variable that stands for it, cannot be used, whatever the files hold."""


@contextmanager
def as_wrong_usage() -> Iterator[None]:
    """Make a BadInput of the block wrong usage."""
    try:
        yield
    except BadInput as error:
        raise WrongUsage(str(error)) from error
